"""`mecha models outdated | update | rollback`: other versions of published models."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mecha.cli.context import bytes_text, echo_json, model_service
from mecha.cli.models import AsJson, Name, app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mecha.service.report import FileNews, ModelNews, UpdateReport, Version

# As `npm outdated` and `diff` do: 1 says that there is something, and is none of the codes of failures.
_OUTDATED = 1
_SHORT = 12


@app.command()
def outdated(as_json: AsJson = False) -> None:
    """Say which pulled models have another version upstream than the one that is locked.

    Ends with 0 where all are current, with 1 where one is outdated, with 5 where the Hub could not be asked.
    """
    news = model_service().updates().news()
    if as_json:
        echo_json({"schema": 1, "models": [_without_codes(model) for model in news]})
    else:
        _show_news(news)
    if any(model.state == "outdated" for model in news):
        raise typer.Exit(_OUTDATED)
    _exit_with(news)


@app.command()
def update(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Models to update; all that are pulled by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the newest version of models. The one before stays until the new one is measured and right.

    `mecha models rollback NAME` goes back to it.
    """
    from mecha.cli.progress import shown_progress

    with shown_progress(as_json=as_json) as progress:
        reports = model_service().updates().update(names or (), dry_run=dry_run, progress=progress)
    if as_json:
        event = "plan" if dry_run else "done"
        echo_json({"schema": 1, "event": event, "models": [_without_codes(report) for report in reports]})
    elif not reports:
        typer.echo("no model is pulled")
    else:
        for report in reports:
            _show_update(report)
    _exit_with(reports)


@app.command()
def rollback(name: Name, as_json: AsJson = False) -> None:
    """Go back to the version from before the last update, FP32, INT8 and mecha.lock; the second time, return."""
    from mecha.cli.progress import shown_progress

    with shown_progress(as_json=as_json) as progress:
        report = model_service().updates().roll_back(name, progress)
    if as_json:
        echo_json({"schema": 1, "event": "done", **asdict(report)})
        return
    typer.echo(f"{report.name}: {_version(report.before)} -> {_version(report.after)}, in {report.path}")
    typer.echo(f"  INT8 by {report.method}: {report.verdict}" if report.method else "  no INT8, as it was")
    if report.notice:
        typer.echo(f"  {report.notice}")
    typer.echo(
        f"  `mecha models rollback {report.name}` returns; `mecha models update {report.name}` brings the newest"
    )


def _without_codes(report: "ModelNews | UpdateReport") -> dict[str, Any]:
    return {key: value for key, value in asdict(report).items() if key != "exit_code"}


def _exit_with(reports: "Sequence[ModelNews] | Sequence[UpdateReport]") -> None:
    """End with the code of the first failure, where there is one."""
    code = next((report.exit_code for report in reports if report.exit_code), 0)
    if code:
        raise typer.Exit(code)


def _show_news(news: "Sequence[ModelNews]") -> None:
    if not news:
        typer.echo("no model is pulled")
        return
    table: list[tuple[str, ...]] = [("NAME", "STATE", "LOCKED", "NEWEST", "REVISION", "FILE")]
    for model in news:
        shown = [file for file in model.files if file.changed] or list(model.files[:1])
        if not shown:
            table.append((model.name, model.state, "-", "-", "-", "-"))
        table += [(model.name, model.state, *_cells(file)) for file in shown]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for model in news:
        for note in (*((model.reason,) if model.reason else ()), *(file.note for file in model.files if file.note)):
            typer.echo(f"{model.name}: {note}", err=True)
        if model.hint:
            typer.echo(f"  next: {model.hint}", err=True)
    if any(model.state == "outdated" for model in news):
        typer.echo("`mecha models update` brings the newest versions", err=True)


def _cells(file: "FileNews") -> tuple[str, ...]:
    where = f"{file.repo}/{file.filename}" if file.repo else file.filename
    return (_version(file.locked), _version(file.newest), file.requested or "-", where)


def _version(version: "Version | None") -> str:
    """Name a version by its bytes, as long as they are told: a commit of a repo may leave a file as it is."""
    if version is None:
        return "-"
    return (version.sha256 or version.revision)[:_SHORT]


def _show_update(report: "UpdateReport") -> None:
    change = f"{_version(report.before)} -> {_version(report.after)}"
    if report.state == "updated":
        typer.echo(f"{report.name}: {change}, in {report.path} ({bytes_text(report.downloaded_bytes)} downloaded)")
        for sentence in (report.message, *report.notes):
            if sentence:
                typer.echo(f"  {sentence}")
        typer.echo(f"  `mecha models rollback {report.name}` goes back")
    elif report.state == "current":
        typer.echo(f"{report.name}: {_version(report.before)} is the newest")
    elif report.state == "outdated":
        typer.echo(f"{report.name}: would update {change}")
        for file in report.files:
            if file.changed:
                typer.echo(f"  {_cells(file)[-1]} at {file.requested}: {bytes_text(_size(file))}")
    else:
        stays = "not updated, the version before stays" if report.state == "kept" else "not updated"
        typer.echo(f"{report.name}: {stays}: {report.reason}", err=True)
        if report.hint:
            typer.echo(f"  next: {report.hint}", err=True)


def _size(file: "FileNews") -> int | None:
    return file.newest.size_bytes if file.newest is not None else None
