"""`mecha models adopt`: an INT8 file that was made elsewhere."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mecha.cli.context import echo_json, model_service
from mecha.cli.models import AsJson, Name, app
from mecha.errors import QuantizationError


@app.command()
def adopt(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An INT8 ONNX file made of this model.")],
    as_json: AsJson = False,
) -> None:
    """Measure an INT8 file made elsewhere against FP32, and publish it if it is right."""
    from mecha.cli.progress import shown_progress

    with shown_progress(as_json=as_json) as progress:
        report = model_service().adopt(name, file, progress)
    if as_json:
        keys = ("name", "path", "file", "verdict", "speedup", "agreement", "message")
        fields = asdict(report)
        done = {"event": "done", **{key: fields[key] for key in keys}}
        fault = None if report.adopted else report.message
        echo_json({**done, "method": "adopted" if report.adopted else None, "changed": report.adopted, "fault": fault})
        if not report.adopted:
            raise typer.Exit(QuantizationError.exit_code)
        return
    if not report.adopted:
        raise QuantizationError(
            f"{report.name}: {report.message}",
            hint=f"Nothing was changed; `mecha models quantize {report.name}` makes INT8 on this device.",
        )
    typer.echo(f"{report.name}: {report.path}")
    typer.echo(f"  {report.message}")
