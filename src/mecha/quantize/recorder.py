"""A folder of frames that a camera saw, spread over all the time that it ran."""

import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.detect.images import encode_image, read_image
from mecha.detect.thumbnail import difference, thumbnail
from mecha.errors import IntegrityError, NotFoundError
from mecha.store.atomic import make_dir, sweep, write_file
from mecha.store.faults import disk_error

LIMIT_BYTES = 64 * 2**20
# Half a minute at least for 64 frames: what a camera sees within a second is one picture.
INTERVAL_S = 0.5
# In shades of 255. Measured on thumbnails: 0.5 between two frames of a still camera of 640x480 with noise of 10 shades
# a pixel; 0.6 between neighbouring frames of traffic, 2.5 after a sixth of a second of it.
SAME = 1.0

_NAME = "frame-{:03}.jpg"
_NAMED = re.compile(r"frame-(\d{3,})\.jpg")


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    thumbnail: NDArray[np.float32]
    size_bytes: int


class FrameRecorder:
    """Keeps frames in a folder, never more than `limit` and never more than `limit_bytes`.

    Until the folder is full, every frame that differs from those kept is kept. From then on each new one takes the
    place of another by chance, the less probable the more there were, so that what is kept is spread evenly over the
    time of all. A frame is a file that appears whole and is replaced whole: the folder can be read at any moment. What
    an earlier recorder left in it counts.

    Not for several threads at once, nor for two recorders in one folder.

    Args:
        folder: made when it is not there. Files that are not named as a recorder names them are left alone.
        limit: frames kept.
        limit_bytes: of all files together.
        interval_s: seconds between two frames that are looked at.
        seed: of the choice of what is replaced.

    Raises:
        DiskError: the folder cannot be made or read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit: int = 64,
        limit_bytes: int = LIMIT_BYTES,
        interval_s: float = INTERVAL_S,
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self.limit = limit
        self._limit_bytes = limit_bytes
        self._interval_s = interval_s
        self._random = random.Random(seed)  # noqa: S311 - a sample of frames, no secret
        self._looked_s: float | None = None
        self._crowded = False
        make_dir(folder)
        sweep(folder)
        self._kept = self._found()
        self._seen = len(self._kept)

    @property
    def count(self) -> int:
        """Frames that are kept now."""
        return len(self._kept)

    @property
    def full(self) -> bool:
        """Whether a new frame can only take the place of another."""
        return self.count >= self.limit or self._crowded

    @property
    def files(self) -> tuple[Path, ...]:
        """The frames, in the order of their names, which is not that of time once the folder was full."""
        return tuple(self.folder / _NAME.format(slot) for slot in sorted(self._kept))

    def offer(self, frame: NDArray[np.uint8], at_s: float | None = None) -> bool:
        """Keep a frame or not, and tell which.

        A frame within `interval_s` of the last one that was looked at costs nothing; one that is not kept costs its
        thumbnail, 0.2 ms at 640x480; one that is kept is encoded and brought to the disk, which takes as long as the
        disk does.

        Args:
            frame: (H, W, 3) uint8 BGR; it is not held after the call.
            at_s: when it was taken, seconds of any clock that only rises; None means now.

        Raises:
            DiskError: the frame cannot be written; those that are kept are untouched.
        """
        now_s = time.monotonic() if at_s is None else at_s
        if self._looked_s is not None and now_s - self._looked_s < self._interval_s:
            return False
        self._looked_s = now_s
        small = thumbnail(frame)
        if any(difference(small, kept.thumbnail) < SAME for kept in self._kept.values()):
            return False
        self._seen += 1
        slot = self._slot()
        return slot is not None and self._write(slot, frame, small)

    def _slot(self) -> int | None:
        """Return where the next frame goes, None when it is not to be kept (algorithm R of reservoir sampling)."""
        if not self.full:
            return next(slot for slot in range(self.limit) if slot not in self._kept)
        drawn = self._random.randrange(self._seen)
        return sorted(self._kept)[drawn] if drawn < self.count else None

    def _write(self, slot: int, frame: NDArray[np.uint8], small: NDArray[np.float32]) -> bool:
        data = encode_image(frame, ".jpg")
        others = sum(kept.size_bytes for number, kept in self._kept.items() if number != slot)
        if others + len(data) > self._limit_bytes:
            self._crowded = self._crowded or bool(self._kept)
            return False
        write_file(self.folder / _NAME.format(slot), data)
        self._kept[slot] = _Kept(small, len(data))
        return True

    def _found(self) -> dict[int, _Kept]:
        """Return what lies in the folder; frames that cannot be read, or are too many, are removed."""
        kept: dict[int, _Kept] = {}
        total = 0
        for file in sorted(self.folder.iterdir()):
            match = _NAMED.fullmatch(file.name)
            if match is None:
                continue
            small = _thumbnail_of(file) if int(match[1]) < self.limit else None
            try:
                size_bytes = file.stat().st_size
                if small is None or total + size_bytes > self._limit_bytes:
                    file.unlink()
                    continue
            except FileNotFoundError:
                continue
            except OSError as error:
                raise disk_error(error, file, "remove") from error
            kept[int(match[1])] = _Kept(small, size_bytes)
            total += size_bytes
        return kept


def _thumbnail_of(file: Path) -> NDArray[np.float32] | None:
    try:
        return thumbnail(read_image(file))
    except (IntegrityError, NotFoundError):
        return None
