"""What a node sees: the last frame as a JPEG, made only for those who ask, and not more often than they can see."""

import threading
import time
from dataclasses import dataclass

from mecha.daemon.topics import LatestMessages
from mecha.errors import NotFoundError
from mecha.runtime.messages import DetectionsMessage, FrameMessage

LONGEST_SIDE = 960
QUALITY = 75
EVERY_S = 0.1
_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as it is sent.

    Attributes:
        jpeg: at most LONGEST_SIDE pixels wide and high.
        seq: number of the frame; captured_at: nanoseconds since 1970.
        width: of the frame itself, pixels, which boxes are told in; height: the same.
    """

    jpeg: bytes
    seq: int
    captured_at: int
    width: int
    height: int


class LiveView:
    """Frames and detections of nodes. Used from any thread."""

    def __init__(self, messages: LatestMessages) -> None:
        self._messages = messages
        self._lock = threading.Lock()
        self._made: dict[str, tuple[float, Picture]] = {}

    def picture(self, node: str) -> Picture | None:
        """Return the last frame that a node wrote, or reads; None where none has come.

        Raises:
            NotFoundError: the node has nothing to do with frames.
            NodeError: the bus is not open.
        """
        topic = self._messages.topic_of(node, FrameMessage.__name__)
        if topic is None:
            raise NotFoundError(f'node "{node}": writes and reads no frames just now')
        sample = self._messages.latest(topic, _WAIT_S)
        if sample is None:
            return None
        # One at a time: ten people who look cost as much as one.
        with self._lock:
            made_s, before = self._made.get(topic, (0.0, None))
            now_s = time.monotonic()
            if before is not None and now_s - made_s < EVERY_S:
                return before
            frame = FrameMessage.decode(sample)
            if before is not None and (before.seq, before.captured_at) == (frame.seq, frame.captured_at):
                return before
            picture = _encoded(frame)
            self._made[topic] = (now_s, picture)
            return picture

    def detections(self, node: str) -> DetectionsMessage | None:
        """Return what a node found last; None where it found nothing yet. Raises as `picture`."""
        topic = self._messages.topic_of(node, DetectionsMessage.__name__)
        if topic is None:
            raise NotFoundError(f'node "{node}": writes and reads no detections just now')
        sample = self._messages.latest(topic, _WAIT_S)
        return None if sample is None else DetectionsMessage.decode(sample)


def _encoded(frame: FrameMessage) -> Picture:
    from mecha.detect.preview import small_jpeg

    height, width = frame.frame_bgr.shape[:2]
    jpeg = small_jpeg(frame.frame_bgr, longest=LONGEST_SIDE, quality=QUALITY)
    return Picture(jpeg, frame.seq, frame.captured_at, width, height)
