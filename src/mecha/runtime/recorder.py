"""`mecha record`: what comes on a bus goes into a file, and nobody on the bus waits for the disk."""

import time
from collections import deque
from collections.abc import Callable
from threading import Condition

from mecha.runtime.bus import Sample
from mecha.runtime.recording import Recorded, RecordingWriter

_LARGE_BYTES = 64 * 1024
_WAITING_BYTES = 128_000_000
"""Twenty 1080p frames: a card that stops to tidy up for half a second loses none."""
_SYNC_PERIOD_S = 1.0
_TURN_S = 0.2


class Recorder:
    """Writes samples in the thread that calls `run`, while other threads bring them.

    Args:
        writer: the file.
        waiting_bytes: how much may wait for the disk. What comes then is dropped, and counted; small messages have a
            quarter more, so that frames do not push them out.
        clock_ns: nanoseconds of a clock that is never set.
    """

    def __init__(
        self,
        writer: RecordingWriter,
        *,
        waiting_bytes: int = _WAITING_BYTES,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._writer = writer
        self._limit_bytes = waiting_bytes
        self._clock_ns = clock_ns
        self._began_ns = clock_ns()
        self._arrived = Condition()
        self._waiting: deque[Recorded] = deque()
        self._waiting_bytes = 0
        self._stopped = False
        self.dropped: dict[str, int] = {}

    def put(self, sample: Sample) -> None:
        """Take a sample; never blocks for long, never raises. Give it to `Bus.subscribe` as the handler."""
        size = len(sample.payload) + len(sample.attachment)
        limit = self._limit_bytes if size >= _LARGE_BYTES else self._limit_bytes * 5 // 4
        with self._arrived:
            if self._stopped:
                return
            if self._waiting_bytes + size > limit:
                self.dropped[sample.topic] = self.dropped.get(sample.topic, 0) + 1
                return
            self._waiting.append(Recorded(self._clock_ns() - self._began_ns, sample))
            self._waiting_bytes += size
            self._arrived.notify()

    def stop(self) -> None:
        """Let `run` end once what waits is written. May be called from any thread."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify()

    def run(self, duration_s: float | None = None) -> None:
        """Write until `stop` is called, or for so many seconds.

        Raises:
            NoSpaceError: the disk is full.
            DiskError: it cannot be written.
        """
        self._writer.sync()
        began_s = synced_s = time.monotonic()
        while True:
            message = self._next(_TURN_S)
            if message is not None:
                self._writer.append(message)
            elif self._stopped:
                break
            now_s = time.monotonic()
            if now_s - synced_s >= _SYNC_PERIOD_S:
                self._writer.sync()
                synced_s = now_s
            if duration_s is not None and now_s - began_s >= duration_s:
                self.stop()
        self._writer.sync()

    def _next(self, timeout_s: float) -> Recorded | None:
        with self._arrived:
            if not self._waiting and not self._stopped:
                self._arrived.wait(timeout_s)
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.sample.payload) + len(message.sample.attachment)
            return message
