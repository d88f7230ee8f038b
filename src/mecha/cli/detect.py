"""`mecha detect`: one-off detection in an image, a folder, a glob, a video or a camera."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mecha.cli.context import echo_json

if TYPE_CHECKING:
    from mecha.detect.detector import Result

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def detect(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Image, folder, glob, video, camera index, rtsp:// or arena://.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="A pulled model.")] = "arena-n",
    int8: Annotated[bool, typer.Option("--int8", help="Run INT8; FP32 otherwise.")] = False,
    score: Annotated[float, typer.Option("--score", min=0.001, max=1.0, help="Lowest score to report.")] = 0.25,
    input_size: Annotated[
        int | None, typer.Option("--input-size", min=32, max=4096, help="Pixels; dynamic models only.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads of the session.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after this many frames.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write annotated frames: an image file, or a folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON line a frame.")] = False,
) -> None:
    """Detect objects in SOURCE and print what was found."""
    from mecha.cli.context import model_service
    from mecha.detect.detector import Detector
    from mecha.runtime.sources import open_source

    published = model_service().store.require(model)
    with open_source(source) as opened:
        detector = Detector(
            published.path,
            precision="int8" if int8 else "fp32",
            score_threshold=score,
            input_size=input_size,
            threads=threads,
        )
        if detector.notice:
            typer.echo(f"warning: {detector.notice}", err=True)
        from mecha.cli.annotated import AnnotatedFrames

        written = AnnotatedFrames(out) if out else None
        for index, captured in enumerate(opened):
            result = detector.run(captured.frame_bgr)
            name = captured.source
            if as_json:
                echo_json(_line(name, index, captured.frame_bgr.shape, result))
            else:
                typer.echo(_sentence(name, result))
            if written is not None:
                written.add(captured.frame_bgr, result, Path(name).name)
            if frames is not None and index + 1 >= frames:
                break
        if written is not None:
            typer.echo(f"wrote {written.close()}", err=as_json)


def _line(name: str, index: int, shape: tuple[int, ...], result: "Result") -> dict[str, Any]:
    times = result.times
    return {
        "schema": 1,
        "source": name,
        "frame": index,
        "width": shape[1],
        "height": shape[0],
        "precision": result.precision,
        "detections": result.detections.to_json(),
        "ms": {
            "pre": round(times.pre_ms, 3),
            "session": round(times.session_ms, 3),
            "post": round(times.post_ms, 3),
        },
    }


def _sentence(name: str, result: "Result") -> str:
    counts: dict[str, int] = {}
    for index in range(len(result.detections)):
        label = result.detections.label(index)
        counts[label] = counts.get(label, 0) + 1
    found = ", ".join(f"{count} {label}" for label, count in counts.items()) or "nothing"
    return f"{name}: {found}  ({result.times.total_ms:.1f} ms, {result.precision})"
