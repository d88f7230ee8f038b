"""`mecha models export` and `mecha models import`: models carried where no network goes."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mecha.cli.context import bytes_text, count_text, echo_json, model_service
from mecha.cli.models import AsJson, app, show_pull
from mecha.errors import UsageError

if TYPE_CHECKING:
    from mecha.service.bundling import ImportedModel
    from mecha.service.packing import ExportReport
    from mecha.store.bundle_index import BundledModel

_STREAM = "-"


@app.command()
def export(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models that are pulled here.")],
    out: Annotated[str, typer.Option("-o", "--out", metavar="FILE", help="The bundle, a tar; - writes it to a pipe.")],
    as_json: AsJson = False,
) -> None:
    """Write models into one file that another device can import without a network."""
    from mecha.cli.progress import shown_progress

    service = model_service()
    if out == _STREAM:
        if as_json or sys.stdout.isatty():
            what = "--json" if as_json else "a terminal"
            raise UsageError(f"-o -: the bundle goes to the standard output; got {what}", hint="Name a file.")
        with shown_progress() as progress:
            report = service.bundles(progress).export(names, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return _show_export(report, to_stderr=True)
    with shown_progress() as progress:
        report = service.bundles(progress).export(names, Path(out))
    if not as_json:
        return _show_export(report, to_stderr=False)
    summary = {"schema": 1, "bundle": report.bundle, "sha256": report.sha256, "size_bytes": report.size_bytes}
    return echo_json({**summary, "models": [_exported(model) for model in report.models]})


def _exported(model: "BundledModel") -> dict[str, Any]:
    int8 = model.int8
    return {
        "name": model.name,
        "licence": model.manifest.licence,
        "fp32_sha256": model.fp32.sha256,
        "int8_sha256": int8.sha256 if int8 else None,
        "left_out": list(model.left_out),
    }


def _show_export(report: "ExportReport", *, to_stderr: bool) -> None:
    for model in report.models:
        precisions = "FP32 and INT8" if model.int8 else "FP32"
        precisions = "INT8" if model.manifest.int8.state == "published" else precisions
        typer.echo(f"{model.name}: {precisions} (licence {model.manifest.licence})", err=to_stderr)
        for what in model.left_out:
            typer.echo(f"  left out: {what}", err=to_stderr)
    where = "" if report.bundle == _STREAM else f"{report.bundle}: "
    count = count_text(len(report.models), "model")
    typer.echo(f"{where}{count}, {bytes_text(report.size_bytes)}, sha256 {report.sha256}", err=to_stderr)


@app.command(name="import")
def import_bundle(
    bundle: Annotated[str, typer.Argument(metavar="FILE", help="What `mecha models export` wrote; - reads a pipe.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Only these models of it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take models out of a bundle, without a network; INT8 of another kind of device is built again here."""
    from mecha.cli.progress import shown_progress

    source = sys.stdin.buffer if bundle == _STREAM else Path(bundle)
    with shown_progress(as_json=as_json) as progress:
        report = model_service().bundles(progress).take(source, names or ())
    if as_json:
        models = [_imported(model) for model in report.models]
        echo_json({"event": "done", "bundle": report.bundle, "models": models})
        return
    for model in report.models:
        show_pull(model.report, as_json=False)
        if model.note:
            typer.echo(f"  {model.note}")
        if model.added_to is not None:
            typer.echo(f"  added to {model.added_to}")


def _imported(model: "ImportedModel") -> dict[str, Any]:
    keys = ("name", "path", "licence", "method", "verdict", "provisional", "speedup", "agreement", "changed", "message")
    fields = asdict(model.report)
    added_to = str(model.added_to) if model.added_to else None
    done = {key: fields[key] for key in keys}
    return {**done, "fault": model.report.int8_fault, "int8": model.int8, "note": model.note, "added_to": added_to}
