"""Frames of a camera, a video or a folder, put into a folder to calibrate on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.errors import QuantizationError
from mecha.progress import Progress, silent
from mecha.quantize.frames import FrameSet, frames_at
from mecha.quantize.photos import PhotoFrames, photo_frames
from mecha.quantize.recorder import INTERVAL_S, FrameRecorder
from mecha.words import counted

TimedFrame = tuple[NDArray[np.uint8], float]
"""A frame, (H, W, 3) uint8 BGR, and when it was taken: seconds of a clock that only rises."""

# A camera that shows the same for so long will not show more: a robot that stands still.
PATIENCE_S = 30.0
# With fewer, none of them could be kept from calibration to measure on.
FEWEST_SEEN = 8
# A photo of 4000x3000 pixels takes 4 MB; nobody should have to choose this.
_BYTES_A_FRAME = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Live:
    """Frames that come one after the other, from a camera that need not end.

    Attributes:
        name: of the camera, for people.
        frames: in the order they come.
    """

    name: str
    frames: Iterable[TimedFrame]


def gather(source: Live | FrameSet, folder: Path, limit: int, progress: Progress = silent) -> int:
    """Put frames that differ from each other into a folder, and return how many there are.

    Of a camera at most two a second are looked at, until there are `limit` or none was new for half a minute.

    Args:
        folder: a new one.
        progress: told of stage "gather", in frames.

    Raises:
        QuantizationError: a camera shows too little.
        MechaError: the frames cannot be read or written, or the camera is lost.
    """
    live = isinstance(source, Live)
    recorder = FrameRecorder(
        folder, limit=limit, limit_bytes=limit * _BYTES_A_FRAME, interval_s=INTERVAL_S if live else 0.0
    )
    progress("gather", 0, limit)
    newest_s: float | None = None
    for frame, at_s in source.frames if isinstance(source, Live) else _in_order(source):
        if recorder.offer(frame, at_s) or newest_s is None:
            newest_s = at_s
            progress("gather", recorder.count, limit)
        if recorder.full or (live and at_s - newest_s > PATIENCE_S):
            break
    fewest = min(limit, FEWEST_SEEN)
    if isinstance(source, Live) and recorder.count < fewest:
        raise QuantizationError(
            f"{source.name}: got {counted(recorder.count, 'frame')} that differ, in what it showed until nothing new "
            f"came for {PATIENCE_S:g} s; expected {fewest} or more",
            hint="Move the camera, or what it looks at, while frames are gathered.",
        )
    return recorder.count


def whole_frames_at(paths: tuple[Path, ...], limit: int) -> FrameSet:
    """Return at most `limit` frames of what lies at some paths, without the crops that calibration adds to few photos.

    Raises:
        MechaError: as `frames_at`.
    """
    frames = frames_at(paths[0], limit) if len(paths) == 1 else photo_frames(paths, limit)
    return replace(frames, samples=min(limit, len(frames.photos))) if isinstance(frames, PhotoFrames) else frames


def _in_order(frames: FrameSet) -> Iterator[TimedFrame]:
    for number, frame in enumerate(frames):
        yield frame, float(number)
