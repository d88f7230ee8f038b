"""`mecha demo`: the whole path on this machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import bytes_text

if TYPE_CHECKING:
    from mecha.demo import DemoReport

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where to work; made anew by each demo.")] = Path(
        "mecha-demo"
    ),
) -> None:
    """Pull, quantize, measure, run and switch the embedded model: no network, no camera."""
    from mecha.cli.progress import shown_progress
    from mecha.demo import run_demo

    with shown_progress() as progress:
        report = run_demo(folder.absolute(), os.environ, say=typer.echo, progress=progress)
    for line in demo_lines(report):
        typer.echo(line)


def demo_lines(report: "DemoReport") -> list[str]:
    """Return the table that the demo ends with."""
    fp32, int8 = report.fp32, report.int8
    columns = [("FP32", fp32), ("INT8", int8)]
    rows = [
        ("file size", [bytes_text(side.size_bytes) if side else "-" for _, side in columns]),
        ("session, gate", [f"{side.session_ms:.2f} ms" if side else "-" for _, side in columns]),
        ("frame p50 in the node", [_ms(report.node_ms.get(name)) for name, _ in columns]),
        ("mAP50-95, arena", [f"{side.map:.3f}" if side else "-" for _, side in columns]),
    ]
    lines = ["", f"{'':<24}{'FP32':>12}{'INT8':>12}"]
    lines += [f"{label:<24}{values[0]:>12}{values[1]:>12}" for label, values in rows]
    lines.append("")
    if int8:
        agreement = "-" if report.pull.agreement is None else f"{report.pull.agreement:.3f}"
        ratio = fp32.session_ms / int8.session_ms
        lines.append(f"INT8 is {ratio:.2f}x FP32 on this CPU ({report.pull.verdict}), agreement {agreement}")
    else:
        lines.append(f"no INT8: {report.pull.message or report.pull.int8_fault}")
    lines.append(f"use_int8 switched {len(report.swaps)} times while running: {' '.join(report.swaps)}")
    lines.append(f"frames detected {report.frames}, dropped {report.dropped}")
    lines.append(f"picture {report.picture}")
    lines.append(f"project {report.project}  (cd there, and try: mecha dev)")
    return lines


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"
