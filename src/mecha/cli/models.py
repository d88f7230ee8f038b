"""`mecha models …`: pull, list, show, verify, remove, quantize, bench, tune, eval."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mecha.cli.context import bytes_text, echo_json, model_service, project_models
from mecha.errors import IntegrityError, QuantizationError, UsageError

if TYPE_CHECKING:
    from mecha.service.report import ModelRow, PullReport

app = typer.Typer(
    help="Pull, list, measure and remove models.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)

_HEADINGS = ("NAME", "STATE", "FP32", "INT8", "METHOD", "VERDICT", "LICENCE", "SOURCE")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model, as `mecha models list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is on this device only.")]
Method = Annotated[
    str | None, typer.Option("--method", help="How INT8 is made: dynamic_int8, static_int8 or auto.", metavar="M")
]


@app.command()
def pull(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Ask the Hub again, and build INT8 again.")] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="R", help="Branch, tag or commit in place of the catalog's.")
    ] = None,
    offline: Offline = False,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Bring only what mecha.lock names, and never write it (MECHA_FROZEN=1).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    no_quantize: Annotated[bool, typer.Option("--no-quantize", help="Bring FP32 only.")] = False,
    method: Method = None,
    limit_rate: Annotated[
        str | None, typer.Option("--limit-rate", metavar="RATE", help="Transfer at most this much a second: 500k, 2M.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a model: download FP32, make INT8 on this device, measure that it is right and faster here."""
    from mecha.cli.progress import shown_progress
    from mecha.service.request import PullOptions, parse_method, parse_rate

    options = PullOptions(
        force=force,
        revision=revision,
        offline=offline,
        frozen=frozen,
        quantize=not no_quantize,
        method=parse_method(method) if method else None,
        limit_bytes_per_s=parse_rate(limit_rate) if limit_rate else None,
    )
    if dry_run:
        _show_plan(asdict(model_service().plan(name, options)), as_json=as_json)
        return
    with shown_progress(as_json=as_json) as progress:
        report = project_models().pull(name, options, progress)
    show_pull(report, as_json=as_json)


def _show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json({"schema": 1, "event": "plan", **plan})
        return
    source = f"{plan['repo']}/{plan['filename']} at {plan['revision']}" if plan["repo"] else f"file {plan['filename']}"
    typer.echo(f"{plan['name']}: {source}, licence {plan['licence']}")
    typer.echo(f"  would download {bytes_text(plan['download_bytes'])} of {bytes_text(plan['size_bytes'])}")
    typer.echo(f"  would make INT8 by {plan['method']}" if plan["method"] else "  would make no INT8")


def show_pull(report: "PullReport", *, as_json: bool) -> None:
    """Show what a pull did."""
    if as_json:
        keys = ("name", "path", "method", "verdict", "provisional", "speedup", "agreement", "downloaded_bytes")
        fields = asdict(report)
        done = {"event": "done", **{key: fields[key] for key in keys}}
        echo_json({**done, "changed": report.changed, "message": report.message, "fault": report.int8_fault})
        return
    if not report.changed and report.int8_fault is None:
        typer.echo(f"{report.name}: complete in {report.path}, nothing to do")
        if report.notice:
            typer.echo(f"  {report.notice}")
        return
    typer.echo(f"{report.name}: {report.path} (licence {report.licence})")
    if report.int8_fault is not None:
        typer.echo(f"  FP32 is ready; INT8 is not: {report.int8_fault}", err=True)
        if report.hint:
            typer.echo(f"  next: {report.hint}", err=True)
        return
    for sentence in filter(None, (report.message, report.notice)):
        typer.echo(f"  {sentence}")
    if report.change is not None:
        before, after = report.change
        typer.echo(f"  agreement with FP32 on frames that were kept apart: {before:.3f} before, {after:.3f} now")
    if report.provisional:
        typer.echo("  provisional: calibrated on built-in scenes; name photos in the catalog to calibrate on them")


@app.command(name="list")
def list_models(as_json: AsJson = False) -> None:
    """Show every model that a catalog names or that is published here."""
    rows = project_models().rows()
    if as_json:
        echo_json({"schema": 1, "models": [asdict(row) for row in rows]})
        return
    table = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(row: "ModelRow") -> tuple[str, ...]:
    sizes = (bytes_text(row.fp32_bytes), bytes_text(row.int8_bytes))
    return (row.name, row.state, *sizes, row.method or "-", row.verdict or "-", row.licence, row.source)


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show all that is known of one model: origin, licence, files, INT8 and how it was measured."""
    shown = project_models().show(name)
    if as_json:
        echo_json(shown)
        return
    from mecha.cli.show import show_lines

    for line in show_lines(shown):
        typer.echo(line)


@app.command()
def verify(name: Name, as_json: AsJson = False) -> None:
    """Read every file of a model again and compare it with the digest in its manifest."""
    faults = model_service().verify(name)
    if as_json:
        echo_json({"schema": 1, "name": name, "ok": not faults, "faults": [asdict(fault) for fault in faults]})
        if faults:
            raise typer.Exit(IntegrityError.exit_code)
        return
    if faults:
        lines = "; ".join(f"{fault.file}: {fault.got}, expected {fault.expected}" for fault in faults)
        healed = ", ".join(f"{fault.file} {fault.remedy}" for fault in faults if fault.remedy)
        how = f": {healed}." if healed else "."
        raise IntegrityError(f"{name}: {lines}", hint=f"`mecha models pull {name}` makes it whole again{how}")
    typer.echo(f"{name}: every file is what its manifest says")


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a model from this project; the cache keeps its files for the next pull."""
    models = project_models()
    if not yes:
        # Before the question: what is not there is not asked about.
        model_service().store.require_any(name)
        if not _is_confirmed(f"Remove {name} from {models.project.models_dir}?"):
            typer.echo(f"{name}: kept")
            return
    models.remove(name)
    typer.echo(f"{name}: removed")


def _is_confirmed(question: str) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: nobody answers.
        KeyboardInterrupt: by Ctrl-C.
    """
    unanswered = UsageError(
        "standard input: got its end; expected y or n", hint="Add `-y`, and the model is removed without a question."
    )
    if sys.stdin is None:
        raise unanswered
    try:
        return typer.confirm(question)
    except typer.Abort as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        typer.echo()
        raise unanswered from None


def show_rebuilt(report: "PullReport", *, as_json: bool) -> None:
    """Show what building INT8 again came to; exit code 8 where none was published.

    Raises:
        QuantizationError: it could not be made, or is not right.
    """
    if report.int8_fault is not None:
        raise QuantizationError(report.int8_fault, hint=report.hint)
    show_pull(report, as_json=as_json)
    if report.method is None:
        raise typer.Exit(QuantizationError.exit_code)


@app.command()
def bench(
    name: Name,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads of a session.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure FP32 and INT8 of a model on this device, alternating in one run."""
    result = model_service().bench(name, threads=threads)
    if as_json:
        echo_json(result)
        return
    from mecha.cli.show import bench_lines

    for line in bench_lines(result):
        typer.echo(line)


@app.command()
def tune(name: Name, as_json: AsJson = False) -> None:
    """Find the threads and the provider that run a model fastest on this device, and use them from now on."""
    from mecha.cli.progress import shown_progress

    with shown_progress() as progress:
        result = model_service().tune(name, progress)
    if as_json:
        echo_json(result)
        return
    from mecha.cli.show import session_text

    for session in result["sessions"]:
        tried = ", ".join(f"{session_text(other)} {other['ms']:.1f} ms" for other in session["tried"])
        typer.echo(f"{name} {session['precision']}: {session_text(session)} from now on (measured: {tried})")


@app.command(name="eval")
def evaluate(
    name: Name,
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="Annotations as COCO writes them: instances.json.")
    ],
    images: Annotated[Path, typer.Option("--images", metavar="DIR", help="The folder of the photos they name.")],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many photos.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads of the session.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the accuracy of FP32 and INT8 on annotated photos: mAP as COCO defines it."""
    from mecha.cli.progress import shown_progress

    with shown_progress() as progress:
        found = model_service().eval(name, data=data, images=images, limit=limit, threads=threads, progress=progress)
    if as_json:
        echo_json(found.figures)
    else:
        from mecha.cli.show import eval_lines

        for line in eval_lines(found.figures):
            typer.echo(line)
        if found.remembered:
            typer.echo(f"  remembered: `mecha models show {name}` and `mecha models report {name}` have it")
    if found.fault:
        typer.echo(f"  not remembered: {found.fault}", err=True)
        if found.hint:
            typer.echo(f"  next: {found.hint}", err=True)


# Their commands register themselves; they take options and words from above, so they come last.
import mecha.cli.adoption  # noqa: E402
import mecha.cli.bundle  # noqa: E402
import mecha.cli.calibration  # noqa: E402
import mecha.cli.report  # noqa: E402
import mecha.cli.storage  # noqa: E402
import mecha.cli.updates  # noqa: E402, F401
