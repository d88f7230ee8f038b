"""Frames into a video file."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.errors import DiskError, UsageError
from mecha.store.atomic import discard, disk_error, unfinished_path

if TYPE_CHECKING:
    import cv2

# What OpenCV's own wheel can write on every system, and every player can read.
_CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
VIDEO_OUT_SUFFIXES = frozenset(_CODECS)


class VideoFile:
    """Writes frames to a video that is there, whole, once it is closed; what was there before stays until then.

    All frames of a video have one size, that of the first. Others are scaled into it, on black.

    Args:
        path: ends in .mp4, .mkv or .avi.
        fps: frames a second that the video plays at.

    Raises:
        UsageError: the ending is none of a video.
    """

    def __init__(self, path: Path, *, fps: float) -> None:
        if path.suffix.lower() not in _CODECS:
            raise UsageError(f'{path}: got suffix "{path.suffix}"; expected one of {", ".join(sorted(_CODECS))}')
        self.path = path
        self.fps = fps
        self.count = 0
        unfinished = unfinished_path(path, "tmp")
        # OpenCV chooses the container by the ending.
        self._unfinished = unfinished.with_name(unfinished.name + path.suffix.lower())
        self._size = (0, 0)
        self._writer: cv2.VideoWriter | None = None

    def add(self, frame_bgr: NDArray[np.uint8]) -> None:
        """Write one frame, (H, W, 3) uint8.

        Raises:
            DiskError: the file cannot be made.
        """
        if self._writer is None:
            self._writer = self._opened(*frame_bgr.shape[:2])
        self._writer.write(_fitted(frame_bgr, *self._size))
        self.count += 1

    def close(self) -> None:
        """Finish the file and put it in its place, if a frame was written. Closing twice is allowed.

        Raises:
            DiskError: not all frames have reached the disk.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            # OpenCV says nothing when the disk is full.
            if (written := _frames_in(self._unfinished)) < self.count:
                raise DiskError(
                    f"{self.path}: cannot write: {written} of {self.count} frames have reached the disk",
                    hint="Is the disk full?",
                )
            self._unfinished.replace(self.path)
        except OSError as error:
            raise disk_error(error, self.path, "write") from error
        finally:
            discard(self._unfinished)

    def _opened(self, height: int, width: int) -> "cv2.VideoWriter":
        import cv2

        try:
            # OpenCV does not say why it cannot.
            self._unfinished.touch()
        except OSError as error:
            raise disk_error(error, self.path, "write") from error
        # Codecs take colour for two by two pixels and would cut an odd line off.
        self._size = (width + width % 2, height + height % 2)
        code = cv2.VideoWriter.fourcc(*_CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._unfinished), code, self.fps, self._size)
        if not writer.isOpened():
            discard(self._unfinished)
            others = ", ".join(sorted(_CODECS.keys() - {self.path.suffix.lower()}))
            raise DiskError(
                f"{self.path}: cannot write a video of {width}x{height} pixels at {self.fps:g} frames a second",
                hint=f"Take another ending ({others}), or smaller frames.",
            )
        return writer


def _fitted(frame_bgr: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return the frame on black of this size, scaled unless it lacks no more than the line that makes a side even."""
    import cv2

    own_height, own_width = frame_bgr.shape[:2]
    if (own_width, own_height) == (width, height):
        return frame_bgr
    if (own_width + own_width % 2, own_height + own_height % 2) != (width, height):
        scale = min(width / own_width, height / own_height)
        own_width, own_height = max(1, round(own_width * scale)), max(1, round(own_height * scale))
        frame_bgr = cv2.resize(frame_bgr, (own_width, own_height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]  # as it came
    fitted = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - own_height) // 2, (width - own_width) // 2
    fitted[top : top + own_height, left : left + own_width] = frame_bgr
    return fitted


def _frames_in(path: Path) -> int:
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()
