"""`mecha detect`: one-off detection in an image, a folder, a glob, a video or a camera."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mecha.cli.context import count_text, echo_json
from mecha.errors import DiskError, IntegrityError, NotFoundError

if TYPE_CHECKING:
    from mecha.cli.output import Output
    from mecha.progress import Progress
    from mecha.runtime.sources import CapturedFrame, FrameSource

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
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write annotated frames (an image, a folder, .mp4, .avi or .mkv), JSON lines (.jsonl) or COCO "
            "results (.json).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON line a frame.")] = False,
) -> None:
    """Detect objects in SOURCE and print what was found.

    Of several pictures, those that cannot be read are passed over with a warning; the exit code is then 6.
    """
    from mecha.cli.context import model_service
    from mecha.cli.found import Found
    from mecha.detect.detector import Detector
    from mecha.runtime.sources import open_source

    published = model_service().store.require(model)
    with open_source(source) as opened:
        expected = min((count for count in (opened.count, frames) if count is not None), default=None)
        # Before the model is loaded: what cannot be written is said at once.
        output = _output(out, opened, expected)
        detector = Detector(
            published.path,
            precision="int8" if int8 else "fp32",
            score_threshold=score,
            input_size=input_size,
            threads=threads,
        )
        if detector.notice:
            typer.echo(f"warning: {detector.notice}", err=True)
        pictures = _Pictures(opened)
        with _writing(output, to_stderr=as_json), _progress(output, expected, as_json=as_json) as progress:
            for index, captured in enumerate(islice(pictures, frames)):
                found = Found(captured, index, published.name, detector.run(captured.frame_bgr))
                if as_json:
                    echo_json(found.to_json())
                elif progress is None:
                    typer.echo(found.sentence())
                if output is not None:
                    output.add(found)
                if progress is not None:
                    progress("detect", min(index + 1 + pictures.skipped, expected or 0), expected)
        if pictures.skipped:
            raise IntegrityError(
                f"{source}: {pictures.skipped} of {count_text(opened.count or 0, 'picture')} could not be read; "
                "the warnings name them"
            )


class _Pictures:
    """The frames of a source; of several pictures, those that cannot be read are told and passed over.

    Attributes:
        skipped: how many were passed over so far.
    """

    def __init__(self, source: "FrameSource") -> None:
        from mecha.runtime.sources.pictures import PictureSource

        self._source = source
        self._several = isinstance(source, PictureSource) and source.count != 1
        self.skipped = 0

    def __iter__(self) -> Iterator["CapturedFrame"]:
        while True:
            try:
                captured = self._source.read()
            except (IntegrityError, NotFoundError, DiskError) as error:
                if not self._several:
                    raise
                typer.echo(f"warning: {error}", err=True)
                self.skipped += 1
                continue
            if captured is None:
                return
            yield captured


def _output(out: Path | None, source: "FrameSource", expected: int | None) -> "Output | None":
    if out is None:
        return None
    from mecha.cli.output import chosen_output

    return chosen_output(out, source, expected)


@contextmanager
def _writing(output: "Output | None", *, to_stderr: bool) -> Iterator[None]:
    """Finish what is written however the run ends; say what it is where the run was done, or stopped by Ctrl-C."""
    if output is None:
        yield
        return
    output.open()
    told = False
    try:
        yield
        told = True
    except KeyboardInterrupt:
        told = output.count > 0
        raise
    finally:
        output.close()
        if told:
            typer.echo(f"wrote {output.summary()}", err=to_stderr)


@contextmanager
def _progress(output: "Output | None", expected: int | None, *, as_json: bool) -> Iterator["Progress | None"]:
    """Show progress where that says more than a line a frame; a bar and JSON lines do not share a terminal."""
    if output is None or expected is None or expected == 1 or (as_json and sys.stdout.isatty()):
        yield None
        return
    from mecha.cli.progress import shown_progress

    with shown_progress() as progress:
        yield progress
