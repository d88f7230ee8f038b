"""`mecha models quantize | calibrate`: INT8 made again, from the frames that a user chooses."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mecha.cli.context import current_project, model_service
from mecha.cli.models import AsJson, Method, Name, Offline, app, show_rebuilt
from mecha.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mecha.quantize.gathering import Live, TimedFrame
    from mecha.runtime.sources import FrameSize, FrameSource

_CAMERA = "camera"
_CAMERA_NODE = "camera"
_ADDRESSES = ("arena://", "rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
# Of a source that says nothing about its rate.
_FRAMES_PER_SECOND = 10.0


@app.command()
def quantize(
    name: Name,
    method: Method = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="SOURCE",
            help="From now on calibrate on a folder of photos, one photo, a video, a list (.txt) or a dataset file "
            '(.yaml); "catalog" for what the catalog names.',
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", help="Frames to take of it, 32 by default.")
    ] = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Make INT8 again from the FP32 that is here, measure it, and publish it if it is right."""
    from mecha.cli.progress import shown_progress
    from mecha.service.request import parse_method

    with shown_progress(as_json=as_json) as progress:
        report = (
            model_service(offline=offline)
            .rebuilds()
            .quantize(
                name,
                method=parse_method(method) if method else None,
                calibration=_named(calibration),
                samples=samples,
                progress=progress,
            )
        )
    show_rebuilt(report, as_json=as_json)


@app.command()
def calibrate(
    name: Name,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="camera (what the camera node reads), a device (0, /dev/video0), a stream, arena://, a video, a "
            "folder, a list (.txt) or a dataset file (.yaml).",
        ),
    ],
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Frames to gather.")] = 64,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Gather frames of what the device sees, make INT8 from them, and publish it if it is right.

    They are kept in calibration/NAME, and used whenever INT8 is made again.
    """
    from mecha.cli.progress import shown_progress

    rebuilds = model_service(offline=offline).rebuilds()
    # Before a camera is opened: half a minute of frames for a model that cannot be built would be for nothing.
    rebuilds.require_fp32(name)
    with shown_progress(as_json=as_json) as progress, _opened(source) as frames_of:
        report = rebuilds.calibrate(name, frames_of, frames=frames, progress=progress)
    show_rebuilt(report, as_json=as_json)


def _named(text: str | None) -> Path | Literal["catalog"] | None:
    if text is None:
        return None
    return "catalog" if text == "catalog" else _path(text, "--calibration", 'photos, a video, a file or "catalog"')


def _path(text: str, option: str, expected: str) -> Path:
    """Return a path that somebody named: nothing would be the working folder, with all that lies in it."""
    if not text:
        raise UsageError(f'{option}: got ""; expected {expected}')
    return Path(text)


@contextmanager
def _opened(text: str) -> "Iterator[Live | Path]":
    """Open what --from names: a camera is opened, a path stays one."""
    from mecha.runtime.sources import FrameSize, open_source

    size = FrameSize()
    if text == _CAMERA:
        text, size = _camera_of_project()
    if not (text.isdigit() or text.startswith(("/dev/", *_ADDRESSES))):
        yield _path(text, "--from", "a camera, photos, a video or a file")
        return
    from mecha.quantize.gathering import Live

    with open_source(text, size=size) as opened:
        yield Live(opened.name, _timed(opened))


def _camera_of_project() -> "tuple[str, FrameSize]":
    """Return what the camera node of the project reads, and in what size; outside of a project, the first camera."""
    from mecha.runtime.settle import effective_config
    from mecha.runtime.sources import FrameSize

    project = current_project()
    if project.user_level:
        return "0", FrameSize()
    config = effective_config(project, _CAMERA_NODE, os.environ).model_dump()
    return config["source"], FrameSize(config["width"], config["height"])


def _timed(opened: "FrameSource") -> "Iterator[TimedFrame]":
    for captured in opened:
        # What is rendered comes as fast as it can be; its own time is that of its frames.
        recorded_s = captured.sequence / (opened.fps or _FRAMES_PER_SECOND)
        yield captured.frame_bgr, captured.captured_at / 1e9 if opened.live else recorded_s
