"""Frames of a video, spread over all of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.errors import IntegrityError, NotFoundError
from mecha.words import counted


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """Some frames of a video.

    Attributes:
        file_digest: sha256 of the file.
        length: frames of the video.
        indices: the numbers of those that are meant, rising.
    """

    path: Path
    file_digest: str
    length: int
    indices: tuple[int, ...]

    @property
    def description(self) -> str:
        """`32 frames of traffic.mp4`."""
        return f"{counted(len(self.indices), 'frame')} of {self.path.name}"

    @property
    def provisional(self) -> bool:
        """A video was chosen for the model by a person."""
        return False

    @property
    def digest(self) -> str:
        """Of the file's content and the frames taken."""
        return hashlib.sha256(f"video {self.file_digest} {self.indices}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        wanted = set(self.indices)
        last = max(wanted)
        for index, frame in _decoded(self.path, wanted):
            yield frame
            if index == last:
                return

    def without(self, count: int) -> tuple["VideoFrames", "VideoFrames"]:
        """Return the frames without `count` of the video, and those: spread over it, and none in both."""
        free = sorted(set(range(self.length)) - set(self.indices))
        if len(free) >= count:
            return self, replace(self, indices=tuple(_spread(free, count)))
        held = tuple(_spread(list(range(self.length)), count))
        rest = [index for index in range(self.length) if index not in set(held)]
        return replace(self, indices=tuple(_spread(rest, len(self.indices)))), replace(self, indices=held)


def video_frames(path: Path, samples: int) -> VideoFrames:
    """Return frames spread evenly over a video.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: no frame of it can be decoded.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file; expected a video to calibrate on")
    length = sum(1 for _ in _decoded(path, set()))
    # Some damaged files count their frames and give none.
    if not length or next(_decoded(path, set(range(length))), None) is None:
        raise IntegrityError(f"{path}: got a file without a frame that can be decoded; expected a video")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return VideoFrames(path, digest, length, tuple(_spread(list(range(length)), samples)))


def _spread(indices: list[int], count: int) -> list[int]:
    """`count` of the indices at even distances, all of them where there are no more."""
    if len(indices) <= count:
        return indices
    return [indices[int((position + 0.5) * len(indices) / count)] for position in range(count)]


def _decoded(path: Path, wanted: set[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield every frame's number with the frame where it is wanted, and with an empty array where it is not."""
    import cv2

    nothing = np.empty((0, 0, 3), dtype=np.uint8)
    capture = cv2.VideoCapture(str(path))
    try:
        index = 0
        while capture.grab():
            if index in wanted:
                whole, frame = capture.retrieve()
                if whole:
                    yield index, np.asarray(frame, dtype=np.uint8)
            elif not wanted:
                yield index, nothing
            index += 1
    finally:
        capture.release()
