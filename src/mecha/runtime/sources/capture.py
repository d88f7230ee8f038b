"""What OpenCV captures: videos, cameras of this machine, streams of the network."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mecha.errors import IntegrityError, MechaError, NetworkError, NodeError, NotFoundError
from mecha.runtime.sources.frame import CapturedFrame, FrameSize, FrameSource

_TIMEOUT_MS = 5000
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")


class CaptureSource(FrameSource):
    """Reads an open capture.

    Args:
        name: what is shown.
        opened: opens the capture; called again at the end where `loop` is set.
        size: what frames are brought to.
        live: see `FrameSource`.
        loop: begin again at the end.
        lost: the error for a live source that gives no more frames.
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
    ) -> None:
        import cv2

        self._open = opened
        self._capture = opened()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        fps = rate if 0 < rate <= 1000 else None  # noqa: PLR2004 - some files say 90000
        said = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        super().__init__(name, fps=fps, live=live, count=said if said > 0 and not (live or loop) else None)
        self._size = size
        self._loop = loop
        self._lost = lost
        # The first frame proves that there are frames, before anybody relies on it.
        self._next: Any = None
        whole, self._next = self._capture.read()
        if not whole:
            self.close()
            raise self._nothing()

    def read(self) -> CapturedFrame | None:
        """Return the next frame; see `FrameSource.read`."""
        frame, self._next = self._next, None
        if frame is None:
            frame = self._read_on()
        return None if frame is None else self._captured(self._size.applied(frame))

    def close(self) -> None:
        """Give back the device or file."""
        self._capture.release()

    def _read_on(self) -> Any:  # noqa: ANN401 - a frame as OpenCV types it, or None
        whole, frame = self._capture.read()
        if whole:
            return frame
        if self._lost is not None:
            raise self._lost(f"{self.name}: no frame comes any more, after {self._sequence}")
        if not self._loop:
            return None
        self._capture.release()
        self._capture = self._open()
        whole, frame = self._capture.read()
        return frame if whole else None

    def _nothing(self) -> MechaError:
        if self._lost is not None:
            return self._lost(f"{self.name}: it was opened, but no frame comes")
        return IntegrityError(f"{self.name}: got a file without a frame that can be decoded; expected a video")


def open_video(path: Path, size: FrameSize, *, loop: bool) -> FrameSource:
    """Open a video file.

    Raises:
        IntegrityError: it holds no frame.
    """
    import cv2

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
    import cv2

    def opened() -> Any:  # noqa: ANN401 - a capture as OpenCV types it
        capture = _quietly(lambda: cv2.VideoCapture(int(text) if text.isdigit() else text))
        if not capture.isOpened():
            raise _no_camera(text)
        # Frames that wait inside of the driver are old frames.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if size.width is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size.width)
        if size.height is not None:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size.height)
        return capture

    return CaptureSource(f"camera {text}", opened, size, live=True, lost=NodeError)


def open_stream(address: str, size: FrameSize) -> FrameSource:
    """Open a stream of the network.

    Raises:
        NetworkError: no stream answers.
    """
    import cv2

    name = without_password(address)

    def opened() -> Any:  # noqa: ANN401 - a capture as OpenCV types it
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
        started = time.monotonic()
        capture = _quietly(lambda: cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits))
        if not capture.isOpened():
            waited = time.monotonic() - started
            raise NetworkError(
                f"{name}: no stream answers ({waited:.1f} s)",
                hint="Try the address in a video player; is the camera on, and does the path belong to it?",
            )
        return capture

    return CaptureSource(name, opened, size, live=True, lost=NetworkError)


def without_password(address: str) -> str:
    """Return an address that may be shown: rtsp://user:***@host/path."""
    return _PASSWORD.sub(r"\1:***@", address)


def _no_camera(text: str) -> NotFoundError:
    device = text if text.startswith("/dev/") else f"/dev/video{text}"
    present = sorted(str(path) for path in Path("/dev").glob("video*"))
    there = f"; this machine has {', '.join(present)}" if present else "; this machine has no /dev/video*"
    seen = "is there but cannot be opened" if Path(device).exists() else "is not there"
    return NotFoundError(
        f"camera {text}: {device} {seen}{there}",
        hint="Another program may use it, or this user may not (group video). arena:// needs no camera.",
    )


def _quietly(opening: Callable[[], Any]) -> Any:  # noqa: ANN401 - a capture as OpenCV types it
    """Open a capture without the lines that OpenCV writes to stderr: the error says it better."""
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return opening()
    finally:
        cv2.utils.logging.setLogLevel(level)
