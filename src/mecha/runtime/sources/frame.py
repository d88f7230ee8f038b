"""A frame as it was taken, and what gives one after the other."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mecha.words import encodable


@dataclass(frozen=True, slots=True, eq=False)
class CapturedFrame:
    """One frame of a source.

    Attributes:
        frame_bgr: (H, W, 3) uint8, channels blue, green, red; the caller's own.
        sequence: counts the frames of the source from 0, and goes on when it begins again.
        captured_at: nanoseconds since 1970, when the frame was taken or read.
        source: where it is from; the path of the picture for a folder. Without passwords, and `encodable`.
    """

    frame_bgr: NDArray[np.uint8]
    sequence: int
    captured_at: int
    source: str


class FrameSource(ABC):
    """Gives frames until it ends. Use it as a context: leaving it closes it.

    Attributes:
        name: what is shown of it; without passwords, and `encodable`.
        fps: frames per second of real time, None where nobody knows.
        live: its frames come by themselves, and waiting for them is all it takes to be in time.
        count: how many frames it gives, None where it has no end or nobody knows.
        same: what `open_source` takes to open the very same one again: a camera that was plugged in again may have got
            another number.
    """

    def __init__(self, name: str, *, fps: float | None, live: bool, count: int | None = None, same: str = "") -> None:
        self.name = encodable(name)
        self.same = same or name
        self.fps = fps
        self.live = live
        self.count = count
        self._sequence = 0

    @abstractmethod
    def read(self) -> CapturedFrame | None:
        """Return the next frame, None at the end.

        Raises:
            IntegrityError: a picture cannot be decoded; the next call goes on with the next one.
            NodeError: a camera gives no more frames.
            NetworkError: a stream gives no more frames.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back the device or file. Closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[CapturedFrame]:
        while (frame := self.read()) is not None:
            yield frame

    def _captured(
        self, frame_bgr: NDArray[np.uint8], source: str = "", captured_at: int | None = None
    ) -> CapturedFrame:
        at = time.time_ns() if captured_at is None else captured_at
        captured = CapturedFrame(frame_bgr, self._sequence, at, encodable(source) or self.name)
        self._sequence += 1
        return captured


@dataclass(frozen=True, slots=True)
class FrameSize:
    """What frames are brought to, pixels.

    Attributes:
        width: None follows the height, in the frame's own proportions.
        height: None follows the width. With both None frames stay as they come.
    """

    width: int | None = None
    height: int | None = None

    def applied(self, frame_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame in this size; the same array when it has it already."""
        height, width = frame_bgr.shape[:2]
        wanted = self.of(width, height)
        if wanted == (width, height):
            return frame_bgr
        import cv2

        return cv2.resize(frame_bgr, wanted, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]  # as it came

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of a frame that comes as `width` x `height`."""
        if self.width is None and self.height is None:
            return width, height
        if self.width is None:
            return max(1, round(width * (self.height or height) / height)), self.height or height
        if self.height is None:
            return self.width, max(1, round(height * self.width / width))
        return self.width, self.height
