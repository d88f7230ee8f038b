"""`mecha quantize --config FILE.json`: a configuration of xquant or xslim, run as it is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import bytes_text, count_text, echo_json

if TYPE_CHECKING:
    from mecha.quantize.xquant.run import Quantized

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def quantize(
    config: Annotated[
        Path, typer.Option("-c", "--config", metavar="FILE.json", help="A configuration of xquant or xslim.")
    ],
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads of a session.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Make INT8 of any ONNX model as a configuration of xquant or xslim says: MODEL.q.onnx and MODEL.q_report.md.

    A preprocess_file of the configuration that names a Python function is run.
    """
    from mecha.cli.progress import shown_progress
    from mecha.quantize.xquant.run import quantize_config

    with shown_progress(as_json=as_json) as progress:
        done = quantize_config(config, root=Path(), progress=progress, threads=threads)
    if as_json:
        echo_json(_document(done))
        return
    for sentence in done.unknown:
        typer.echo(f"warning: {sentence}", err=True)
    for line in _lines(done):
        typer.echo(line)


def _document(done: "Quantized") -> dict[str, object]:
    return {
        "event": "done",
        "schema": 1,
        "model": str(done.model),
        "report": None if done.report is None else str(done.report),
        "method": done.built.method,
        "fp32_bytes": done.fp32_bytes,
        "int8_bytes": done.int8_bytes,
        "samples": done.samples,
        "skipped": done.skipped,
        "left_float": done.built.left_float,
        "gains": [asdict(gain) for gain in done.built.gains],
        "outputs": [{"name": row.tensor, "snr": row.snr, "mse": row.mse, "cosine": row.cosine} for row in done.outputs],
        "warnings": done.unknown,
        "notes": (*done.notes, *done.built.notes),
    }


def _lines(done: "Quantized") -> list[str]:
    ratio = done.int8_bytes / done.fp32_bytes
    lines = [f"{done.model}: {bytes_text(done.int8_bytes)} of {bytes_text(done.fp32_bytes)}, {ratio:.2f} of FP32"]
    if done.samples:
        skipped = f", {done.skipped} of the list skipped: not there, or cannot be read" if done.skipped else ""
        lines.append(f"  calibrated on {count_text(done.samples, 'file')}{skipped}")
    for row in done.outputs:
        decibels = "" if row.sqnr_db is None else f" ({row.sqnr_db:.1f} dB)"
        lines.append(f"  {row.tensor}: SNR {row.snr:.4f}{decibels}, cosine {row.cosine:.4f}; lower SNR is better")
    lines += [f"  {note}" for note in (*done.notes, *done.built.notes)]
    if done.report is not None:
        lines.append(f"{done.report}: every tensor compared with FP32")
    return lines
