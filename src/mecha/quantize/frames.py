"""The frames INT8 is calibrated on, and the others it is gated on: rendered scenes, photos or a video."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mecha.detect.images import VIDEO_SUFFIXES
from mecha.errors import QuantizationError
from mecha.quantize.photos import MOST_GATE_FRAMES, PhotoFrames, photo_frames
from mecha.quantize.video import VideoFrames, video_frames
from mecha.words import counted

__all__ = [
    "FrameSet",
    "PhotoFrames",
    "SceneFrames",
    "VideoFrames",
    "built_in_scenes",
    "frames_at",
    "photo_frames",
    "split_frames",
    "video_frames",
]

Frame = NDArray[np.uint8]

GATE_FRAMES = 16
# Of so many photos, or frames of a video, the gate gets MOST_GATE_FRAMES: calibration has enough left.
_PLENTY = 64
# So many are needed before some of them are kept from calibration for the gate.
_FEWEST_TO_HOLD_OUT = 8
# A build goes through its frames three times, and rendering them took more than half of it for a small model.
_KEPT_BYTES = 32_000_000


class FrameSet(Protocol):
    """Frames that can be gone through again and again, always the same."""

    @property
    def description(self) -> str:
        """What they are, in a few words: `32 built-in scenes`."""

    @property
    def provisional(self) -> bool:
        """Whether they say nothing about what the device will see."""

    @property
    def digest(self) -> str:
        """Sha256, lower-case hex, equal for equal frames."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames: (H, W, 3) uint8 BGR."""


@dataclass(frozen=True, slots=True)
class SceneFrames:
    """Scenes that mecha renders: frames `first` to `first + count - 1` of the set `seed`, (height, width).

    Those that were rendered are kept, read-only, up to 32 MB.
    """

    count: int
    seed: int
    size: tuple[int, int]
    first: int = 0
    _kept: list[Frame] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def description(self) -> str:
        """`32 built-in scenes`."""
        return counted(self.count, "built-in scene")

    @property
    def provisional(self) -> bool:
        """Scenes are not what the device will see."""
        return True

    @property
    def digest(self) -> str:
        """Of the arguments and of the code that renders: nothing has to be rendered to know it."""
        spec = find_spec("mecha.arena.leaves")
        code = Path(spec.origin).read_bytes() if spec is not None and spec.origin is not None else b""
        words = f"scenes {self.count} {self.seed} {self.size} {self.first} "
        return hashlib.sha256(words.encode() + code).hexdigest()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Frame]:
        from mecha.arena.leaves import calibration_scene

        height, width = self.size
        for at in range(self.count):
            if at < len(self._kept):
                yield self._kept[at]
                continue
            frame = calibration_scene(self.seed, self.first + at, width, height)
            frame.flags.writeable = False
            if at == len(self._kept) and (at + 1) * frame.nbytes <= _KEPT_BYTES:
                self._kept.append(frame)
            yield frame


def built_in_scenes(count: int, *, seed: int, size: tuple[int, int]) -> SceneFrames:
    """Return scenes that mecha renders.

    Args:
        size: (height, width) in pixels, that of the model's input.
    """
    return SceneFrames(count, seed, size)


def frames_at(path: Path, samples: int) -> FrameSet:
    """Return frames of what lies at a path: a folder of photos, one photo or a video."""
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return video_frames(path, samples)
    return photo_frames([path], samples)


def split_frames(frames: FrameSet, *, gate: int | None = None) -> tuple[FrameSet, FrameSet]:
    """Return the frames to calibrate on, and others to gate on.

    Of photos, a quarter or more is kept from calibration wherever there are eight; where there are not, the gate sees
    other crops of the same ones. Of scenes and videos it sees other frames.

    Args:
        gate: how many the gate gets, crops of its photos among them; None means 16, and 32 where there are 64 photos,
            or frames of a video.

    Raises:
        QuantizationError: a video is too short to give frames to both.
    """
    if isinstance(frames, SceneFrames):
        return frames, replace(frames, count=gate or GATE_FRAMES, first=frames.first + frames.count)
    if isinstance(frames, VideoFrames):
        if frames.length < _FEWEST_TO_HOLD_OUT:
            raise QuantizationError(
                f"{frames.path}: got a video of {counted(frames.length, 'frame')}; expected {_FEWEST_TO_HOLD_OUT} or "
                "more, some to calibrate on and others to measure on",
                hint="Name a longer video, or photos.",
            )
        return frames.without(_held(frames.length, len(frames), gate or _gate_frames(frames.length)))
    if not isinstance(frames, PhotoFrames):
        raise TypeError(f"no way to split {type(frames).__name__}")
    photos = len(frames.photos)
    gate = gate or _gate_frames(photos)
    if photos < _FEWEST_TO_HOLD_OUT:
        return frames, replace(frames, samples=gate, first=max(frames.samples, photos))
    held = _held(photos, frames.samples, gate)
    used = replace(frames, photos=frames.photos[:-held], digests=frames.digests[:-held])
    return used, replace(frames, photos=frames.photos[-held:], digests=frames.digests[-held:], samples=gate)


def _gate_frames(available: int) -> int:
    return MOST_GATE_FRAMES if available >= _PLENTY else GATE_FRAMES


def _held(available: int, samples: int, gate: int) -> int:
    """Return how many of the available ones are kept from calibration: a quarter, or all that it has no use for."""
    return min(gate, max(available // 4, available - samples))
