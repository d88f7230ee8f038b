"""The frames INT8 is calibrated on, and the others it is gated on: rendered scenes, photos or a video."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mecha.detect.images import IMAGE_SUFFIXES, VIDEO_SUFFIXES, decode_image
from mecha.errors import DiskError, IntegrityError, NotFoundError, QuantizationError
from mecha.quantize.video import VideoFrames, video_frames

Frame = NDArray[np.uint8]

GATE_FRAMES = 16
# So many photos are needed before some of them are kept from calibration for the gate.
_FEWEST_TO_HOLD_OUT = 8
# A crop shows at least this share of a photo's width and height.
_SMALLEST_CROP = 0.4
_HINT = f"Photos end in {', '.join(sorted(IMAGE_SUFFIXES))}."


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
    """Scenes that mecha renders: frames `first` to `first + count - 1` of the set `seed`, (height, width)."""

    count: int
    seed: int
    size: tuple[int, int]
    first: int = 0

    @property
    def description(self) -> str:
        """`32 built-in scenes`."""
        return _counted(self.count, "built-in scene")

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
        for index in range(self.first, self.first + self.count):
            yield calibration_scene(self.seed, index, width, height)


@dataclass(frozen=True, slots=True)
class PhotoFrames:
    """Photos, each whole first; where more frames are asked for than there are photos, crops of them follow.

    Attributes:
        photos: files that can be decoded.
        digests: sha256 of each file.
        samples: how many frames.
        first: number of the first frame; frame i is photo i, or crop i of photo i modulo the number of photos.
        skipped: files that were looked at and could not be decoded.
    """

    photos: tuple[Path, ...]
    digests: tuple[str, ...]
    samples: int
    first: int = 0
    skipped: int = 0

    @property
    def description(self) -> str:
        """`32 photos`, `4 photos, 28 crops of them`; unreadable ones are named."""
        whole = len(range(self.first, min(self.first + self.samples, len(self.photos))))
        crops = self.samples - whole
        words = [_counted(whole, "photo")] if whole else []
        if crops:
            words.append(f"{_counted(crops, 'crop')} of {'them' if whole else _counted(len(self.photos), 'photo')}")
        if self.skipped:
            words.append(f"{_counted(self.skipped, 'unreadable one')} skipped")
        return ", ".join(words)

    @property
    def provisional(self) -> bool:
        """Photos were chosen for the model by a person."""
        return False

    @property
    def digest(self) -> str:
        """Of the contents of the photos, in their order."""
        words = f"photos {self.samples} {self.first} {' '.join(self.digests)}"
        return hashlib.sha256(words.encode()).hexdigest()

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[Frame]:
        from mecha.detect.images import read_image

        for index in range(self.first, self.first + self.samples):
            frame = read_image(self.photos[index % len(self.photos)])
            yield frame if index < len(self.photos) else _crop(frame, index)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _crop(frame: Frame, index: int) -> Frame:
    """A part of a photo, mirrored or not; the index alone decides which."""
    rng = np.random.default_rng(index)
    height, width = frame.shape[:2]
    share = rng.uniform(_SMALLEST_CROP, 1.0)
    rows, columns = max(int(height * share), 1), max(int(width * share), 1)
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    part = frame[top : top + rows, left : left + columns]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)  # noqa: PLR2004


def built_in_scenes(count: int, *, seed: int, size: tuple[int, int]) -> SceneFrames:
    """Return scenes that mecha renders.

    Args:
        size: (height, width) in pixels, that of the model's input.
    """
    return SceneFrames(count, seed, size)


def photo_frames(paths: Sequence[Path], samples: int) -> PhotoFrames:
    """Return frames of the photos that `paths` names: files, or folders with all that lies below them.

    They are taken in an order that their names alone decide, so that a sequence of similar ones is spread. No more are
    opened than calibration and gate need.

    Raises:
        NotFoundError: a path does not exist.
        QuantizationError: there is no photo, or more than half of those opened cannot be decoded.
    """
    files = [file for path in paths for file in _photos_at(path)]
    where = ", ".join(map(str, paths[:3])) + (" …" if len(paths) > 3 else "")  # noqa: PLR2004
    if not files:
        raise QuantizationError(f"{where or 'calibration'}: got no photo; expected at least one", hint=_HINT)
    good: list[Path] = []
    digests: list[str] = []
    unreadable: list[Path] = []
    for file in sorted(dict.fromkeys(files), key=lambda file: hashlib.sha256(file.name.encode()).digest()):
        if len(good) == samples + GATE_FRAMES:
            break
        data = _bytes_of(file)
        try:
            decode_image(data, where=str(file))
        except IntegrityError:
            unreadable.append(file)
            continue
        good.append(file)
        digests.append(hashlib.sha256(data).hexdigest())
    if len(unreadable) > len(good):
        raise QuantizationError(
            f"{where}: got {len(unreadable)} of {len(unreadable) + len(good)} photos that cannot be decoded, "
            f"{unreadable[0].name} the first; expected at most half",
            hint="Check that the folder holds whole image files. " + _HINT,
        )
    return PhotoFrames(tuple(good), tuple(digests), samples, skipped=len(unreadable))


def listed_photos(file: Path) -> tuple[Path, ...]:
    """Return the photos that a text file names, one a line, relative to the file's own folder.

    Raises:
        NotFoundError: there is no such file.
        QuantizationError: the file is no text, or names nothing.
    """
    data = _bytes_of(file)
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise QuantizationError(f"{file}: got bytes that are no text; expected one path of a photo a line") from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise QuantizationError(f"{file}: got no line that names a photo; expected one path a line")
    return tuple(file.parent / name for name in names)


def frames_at(path: Path, samples: int) -> FrameSet:
    """Return frames of what lies at a path: a folder of photos, one photo or a video."""
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return video_frames(path, samples)
    return photo_frames([path], samples)


def split_frames(frames: FrameSet, *, gate: int = GATE_FRAMES) -> tuple[FrameSet, FrameSet]:
    """Return the frames to calibrate on, and as many as `gate` others to gate on.

    Of photos, some are kept from calibration wherever there are enough; where there are not, the gate sees other crops
    of the same ones. Of scenes and videos it sees other frames.
    """
    if isinstance(frames, SceneFrames):
        return frames, replace(frames, count=gate, first=frames.first + frames.count)
    if isinstance(frames, VideoFrames):
        return frames, frames.others(gate)
    if not isinstance(frames, PhotoFrames):
        raise TypeError(f"no way to split {type(frames).__name__}")
    photos = len(frames.photos)
    if photos < _FEWEST_TO_HOLD_OUT:
        return frames, replace(frames, samples=gate, first=max(frames.samples, photos))
    held = min(gate, max(photos // 4, photos - frames.samples))
    used = replace(frames, photos=frames.photos[:-held], digests=frames.digests[:-held])
    return used, replace(frames, photos=frames.photos[-held:], digests=frames.digests[-held:], samples=gate)


def _photos_at(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder; expected photos to calibrate on")
    return [path]


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{file}: no such file; expected a photo to calibrate on") from error
    except OSError as error:
        raise DiskError(f"{file}: cannot be read: {error.strerror or error}") from error
