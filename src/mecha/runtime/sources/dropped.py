"""A source that gives no frames for as long as `mecha dev --fault camera-drop` says."""

from collections.abc import Callable
from threading import Event

from mecha.errors import NodeError
from mecha.runtime.injection import Injection, of_this_process
from mecha.runtime.sources.frame import CapturedFrame, FrameSource

_KIND = "camera-drop"


class DroppedSource(FrameSource):
    """Gives the frames of another source, but none while it is dropped.

    A live source is lost then, as a camera is whose cable is pulled: it has to be opened again. A recording stands
    still, and goes on where it was.
    """

    def __init__(self, source: FrameSource, injection: Injection) -> None:
        super().__init__(source.name, fps=source.fps, live=source.live, count=source.count, same=source.same)
        self._source = source
        self._injection = injection
        self._closed = Event()

    def read(self) -> CapturedFrame | None:
        """Return the next frame; see `FrameSource.read`."""
        if self.live:
            self._require_frames()
        else:
            self._injection.wait_out(_KIND, self._closed)
        captured = self._source.read()
        if self.live:
            # It may have been waited for until now.
            self._require_frames()
        return captured

    def close(self) -> None:
        """Give back the device or file."""
        self._closed.set()
        self._source.close()

    def _require_frames(self) -> None:
        if self._injection.lasts(_KIND):
            raise NodeError(f"{self.name}: no frame comes any more")


def present(opened: Callable[[], FrameSource]) -> FrameSource:
    """Open a source as the faults of this process leave it.

    Raises:
        NodeError: it is dropped.
        MechaError: what `opened` raises.
    """
    injection = of_this_process()
    source = opened()
    if not injection.planned(_KIND):
        return source
    if source.live and injection.lasts(_KIND):
        source.close()
        raise NodeError(f"{source.name}: it was opened, but no frame comes")
    return DroppedSource(source, injection)
