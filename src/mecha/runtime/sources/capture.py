"""What OpenCV captures: videos, cameras of this machine, streams of the network."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mecha.errors import ConfigError, IntegrityError, MechaError, NetworkError, NodeError, NotFoundError
from mecha.runtime.sources.address import why_no_stream, without_password
from mecha.runtime.sources.device import cameras_here, device_number, lasting_name
from mecha.runtime.sources.frame import CapturedFrame, FrameSize, FrameSource
from mecha.runtime.sources.taken import StreamClock, device_age_s
from mecha.words import encodable

__all__ = ["CaptureSource", "open_device", "open_stream", "open_video", "without_password"]

_TIMEOUT_MS = 5000
_DEVICE_TIMEOUT_S = "2"
_NO_FFMPEG_LINES = "-8"
Age = Callable[[float, float], float]


class CaptureSource(FrameSource):
    """Reads an open capture.

    Args:
        name: what is shown.
        opened: opens the capture; called again at the end where `loop` is set.
        size: what frames are brought to.
        live: see `FrameSource`.
        loop: begin again at the end.
        lost: the error for a live source that gives no more frames.
        age_s: how long ago a frame was taken, from the seconds that OpenCV knows of it and the monotonic clock; None
            dates it when it is read.
        same: see `FrameSource`.
    """

    def __init__(
        self,
        name: str,
        opened: Callable[[], Any],
        size: FrameSize,
        *,
        live: bool,
        loop: bool = False,
        lost: Callable[[str], MechaError] | None = None,
        age_s: Age | None = None,
        same: str = "",
    ) -> None:
        import cv2

        self._open = opened
        self._capture = opened()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        fps = rate if 0 < rate <= 1000 else None  # noqa: PLR2004 - some files say 90000
        said = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        super().__init__(name, fps=fps, live=live, count=said if said > 0 and not (live or loop) else None, same=same)
        self._size = size
        self._loop = loop
        self._lost = lost
        self._age_s = age_s
        # The first frame proves that there are frames, before anybody relies on it.
        frame = self._grabbed()
        if frame is None:
            self.close()
            raise self._nothing()
        self._next: tuple[Any, int] | None = (frame, self._taken_at())

    def read(self) -> CapturedFrame | None:
        """Return the next frame; see `FrameSource.read`."""
        if self._next is None:
            frame = self._read_on()
            if frame is None:
                return None
            taken_at = self._taken_at()
        else:
            (frame, taken_at), self._next = self._next, None
        return self._captured(self._size.applied(frame), captured_at=taken_at)

    def close(self) -> None:
        """Give back the device or file."""
        self._capture.release()

    def _read_on(self) -> Any:  # noqa: ANN401 - a frame as OpenCV types it, or None
        frame = self._grabbed()
        if frame is not None:
            return frame
        if self._lost is not None:
            raise self._lost(f"{self.name}: no frame comes any more, after {self._sequence}")
        if not self._loop:
            return None
        self._capture.release()
        self._capture = self._open()
        return self._grabbed()

    def _grabbed(self) -> Any:  # noqa: ANN401 - a frame as OpenCV types it, or None
        import cv2

        try:
            # A stream that hangs gets a line from OpenCV too.
            whole, frame = _quietly(self._capture.read) if self.live else self._capture.read()
        except cv2.error:
            # An assertion of OpenCV: the driver does not do as drivers must.
            return None
        return frame if whole else None

    def _taken_at(self) -> int:
        """Return when the frame that was just read was taken, nanoseconds since 1970."""
        if self._age_s is None:
            return time.time_ns()
        import cv2

        age_s = self._age_s(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, time.monotonic())
        return time.time_ns() - int(age_s * 1e9)

    def _nothing(self) -> MechaError:
        if self._lost is not None:
            return self._lost(f"{self.name}: it was opened, but no frame comes")
        return IntegrityError(f"{self.name}: got a file without a frame that can be decoded; expected a video")


def open_video(path: Path, size: FrameSize, *, loop: bool) -> FrameSource:
    """Open a video file.

    Raises:
        IntegrityError: it holds no frame.
        ConfigError: its name is not UTF-8.
    """
    import cv2

    name = encodable(str(path))
    if name != str(path):
        # OpenCV ends the whole process over such a name.
        raise ConfigError(
            f"source {name}: got a video whose name is not UTF-8; expected one that is",
            hint="Give the file another name.",
        )

    def opened() -> Any:  # noqa: ANN401 - a capture as OpenCV types it
        return _quietly(lambda: cv2.VideoCapture(str(path)))

    return CaptureSource(str(path), opened, size, live=False, loop=loop)


def open_device(text: str, size: FrameSize) -> FrameSource:
    """Open a camera of this machine.

    Args:
        text: its number or its device.
        size: asked of the camera; what it gives instead is brought to it.

    Raises:
        NotFoundError: there is no such camera, or it cannot be opened.
        NodeError: it is there, but gives no frame.
    """
    # A camera that hangs is given up after 10 seconds otherwise; read when OpenCV is loaded.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", _DEVICE_TIMEOUT_S)
    import cv2

    number = device_number(text)

    def opened() -> Any:  # noqa: ANN401 - a capture as OpenCV types it
        capture = _quietly(lambda: cv2.VideoCapture(text if number is None else number))
        if not capture.isOpened():
            raise _no_camera(text)
        # Frames that wait inside of the driver are old frames.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if size.width is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size.width)
        if size.height is not None:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size.height)
        return capture

    # Elsewhere the seconds that OpenCV knows of a frame are not those of the monotonic clock.
    age_s = device_age_s if sys.platform == "linux" else None
    return CaptureSource(
        f"camera {text}", opened, size, live=True, lost=NodeError, age_s=age_s, same=lasting_name(text)
    )


def open_stream(address: str, size: FrameSize) -> FrameSource:
    """Open a stream of the network.

    Raises:
        NetworkError: no stream answers.
    """
    # FFmpeg writes a line of its own for each try that comes to nothing; read when it is used first.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _NO_FFMPEG_LINES)
    import cv2

    name = without_password(address)

    def opened() -> Any:  # noqa: ANN401 - a capture as OpenCV types it
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
        started = time.monotonic()
        capture = _quietly(lambda: cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits))
        if not capture.isOpened():
            waited = time.monotonic() - started
            raise NetworkError(
                f"{name}: no stream answers ({waited:.1f} s): {without_password(why_no_stream(address))}",
                hint="Try the address in a video player; is the camera on, and does the path belong to it?",
            )
        return capture

    # Only RTP carries the clock of the camera; for others FFmpeg counts frames and takes it for time.
    age_s = StreamClock().age_s if address.startswith("rtsp") else None
    return CaptureSource(name, opened, size, live=True, lost=NetworkError, age_s=age_s, same=address)


def _no_camera(text: str) -> NotFoundError:
    device = text if text.startswith("/dev/") else f"/dev/video{text}"
    present = cameras_here()
    there = f"; this machine has {', '.join(present)}" if present else "; this machine has no /dev/video*"
    seen = "is there but cannot be opened" if Path(device).exists() else "is not there"
    return NotFoundError(
        f"camera {text}: {device} {seen}{there}",
        hint="Another program may use it, or this user may not (group video). arena:// needs no camera.",
    )


def _quietly(doing: Callable[[], Any]) -> Any:  # noqa: ANN401 - a capture or a frame as OpenCV types it
    """Use a capture without the lines that OpenCV writes to stderr: the error says it better."""
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return doing()
    finally:
        cv2.utils.logging.setLogLevel(level)
