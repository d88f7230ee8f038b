"""Photos to calibrate on: each whole first, then crops of them."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.detect.images import IMAGE_SUFFIXES, decode_image
from mecha.errors import DiskError, IntegrityError, NotFoundError, QuantizationError
from mecha.words import counted

Frame = NDArray[np.uint8]

# Beyond the frames to calibrate on, so many photos are opened for the gate.
MOST_GATE_FRAMES = 32
# A crop shows at least this share of a photo's width and height.
_SMALLEST_CROP = 0.4
_HINT = f"Photos end in {', '.join(sorted(IMAGE_SUFFIXES))}."


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
        words = [counted(whole, "photo")] if whole else []
        if crops:
            words.append(f"{counted(crops, 'crop')} of {'them' if whole else counted(len(self.photos), 'photo')}")
        if self.skipped:
            words.append(f"{counted(self.skipped, 'unreadable one')} skipped")
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


def photo_frames(paths: Sequence[Path], samples: int) -> PhotoFrames:
    """Return frames of the photos that `paths` names: files, or folders with all that lies below them.

    They are taken in an order that their names alone decide, so that a sequence of similar ones is spread. No more are
    opened than calibration and gate need.

    Raises:
        NotFoundError: a path does not exist.
        QuantizationError: there is no photo, or more than half of those opened cannot be decoded.
    """
    files = [file for path in paths for file in photos_at(path)]
    where = ", ".join(map(str, paths[:3])) + (" …" if len(paths) > 3 else "")  # noqa: PLR2004
    if not files:
        raise QuantizationError(f"{where or 'calibration'}: got no photo; expected at least one", hint=_HINT)
    good: list[Path] = []
    digests: list[str] = []
    unreadable: list[Path] = []
    for file in sorted(dict.fromkeys(files), key=lambda file: hashlib.sha256(os.fsencode(file.name)).digest()):
        if len(good) == samples + MOST_GATE_FRAMES:
            break
        data = bytes_of(file)
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


def _crop(frame: Frame, index: int) -> Frame:
    """A part of a photo, mirrored or not; the index alone decides which."""
    rng = np.random.default_rng(index)
    height, width = frame.shape[:2]
    share = rng.uniform(_SMALLEST_CROP, 1.0)
    rows, columns = max(int(height * share), 1), max(int(width * share), 1)
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    part = frame[top : top + rows, left : left + columns]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)  # noqa: PLR2004


def photos_at(path: Path) -> list[Path]:
    """Return the file at a path, or the photos of the folder there and of those below it, by name.

    Raises:
        NotFoundError: there is neither.
    """
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if _is_photo(file.relative_to(path)) and file.is_file())
    if not path.exists():
        raise NotFoundError(f"{path}: no such file or folder; expected photos to calibrate on")
    return [path]


def _is_photo(path: Path) -> bool:
    """Tell by the name. Hidden files are none: macOS leaves `._photo.jpg` beside every photo on a memory card."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def bytes_of(file: Path, *, what: str = "a photo to calibrate on") -> bytes:
    """Return what a file holds.

    Raises:
        NotFoundError: there is no such file; the message says `what` was expected.
        DiskError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{file}: no such file; expected {what}") from error
    except OSError as error:
        raise DiskError(f"{file}: cannot be read: {error.strerror or error}") from error
