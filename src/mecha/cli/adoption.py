"""`mecha models add` and `mecha models adopt`: models and INT8 files of the user's own."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mecha.cli.context import echo_json, model_service
from mecha.cli.models import AsJson, Method, Name, Offline, app, show_pull
from mecha.errors import QuantizationError


@app.command()
def add(
    source: Annotated[
        str, typer.Argument(metavar="FILE|OWNER/REPO/PATH", help="An ONNX file on this device, or one of the Hub.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="N", help="What the model is to be called.")],
    family: Annotated[
        str | None, typer.Option("--family", metavar="F", help="How its outputs are decoded; found from the model.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="P", help="Its preprocessing; the family's own by default.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="L", help="Class names: a text file, coco, or a,b,c; from the model's metadata."
        ),
    ] = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", metavar="PIXELS", help="For a model that takes any size.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--license", metavar="SPDX", help="Its licence.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", metavar="R", help="Branch, tag or commit.")] = None,
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="One line about it.")] = "",
    method: Method = None,
    no_quantize: Annotated[bool, typer.Option("--no-quantize", help="Make no INT8 of it.")] = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Add a model of your own to the project's catalog, and pull it."""
    from mecha.cli.progress import shown_progress
    from mecha.service.addition import Addition

    addition = Addition(
        source=source,
        name=name,
        description=description,
        family=family,
        preset=preset,
        labels=labels,
        input_size=input_size,
        licence=licence,
        revision=revision,
        quantize=not no_quantize,
        method=method,
    )
    service = model_service(offline=offline)
    with shown_progress(as_json=as_json) as progress:
        report = service.add(addition, folder=Path.cwd(), progress=progress)
    if not as_json:
        typer.echo(f"{name}: added to {service.project.catalog_file}")
    show_pull(report, as_json=as_json)


@app.command()
def adopt(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An INT8 ONNX file made of this model.")],
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Measure an INT8 file made elsewhere against FP32, and publish it if it is right."""
    from mecha.cli.progress import shown_progress

    with shown_progress(as_json=as_json) as progress:
        report = model_service(offline=offline).adopt(name, file, progress)
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
