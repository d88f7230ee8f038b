"""Several connections for one file, where that measures faster than one.

Some servers and lines give each connection a share of its own. A download begins on one connection; when that would
take long, a second one is opened, then more, and each stays only where the rate grew by a quarter. The connections
fetch segments that follow one another, and these are written in order: the partial file is the start of the file at
any moment, as with one connection, and has no holes that could be believed. Whatever goes wrong here goes back to one
connection, which knows what to do about it.
"""

import re
import threading
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx2

from mecha.errors import MechaError
from mecha.hub.pace import Clock, Widening
from mecha.hub.transfer import Transfer, following

_LEAST_SEGMENT, _MOST_SEGMENT = 64 * 1024, 8 << 20
_LEAVE_S = 1.0
_CONTENT_RANGE = re.compile(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


def widened(transfer: Transfer, rate: float, widening: Widening, clock: Clock) -> int:
    """Fetch on with more connections as long as they are worth it.

    Args:
        rate: of one connection, bytes a second.

    Returns:
        How many connections were in use in the end. The file is whole, or one connection goes on from where it is.

    Raises:
        DiskError: the bytes cannot be written.
    """
    total = transfer.file.remote.size_bytes
    if total is None:
        return 1
    segment = min(max(int(rate * widening.segment_s), _LEAST_SEGMENT), _MOST_SEGMENT)
    transfer.file.mixed = True
    lanes = _Lanes(transfer, total, segment)
    try:
        lanes.open()
        while lanes.allowed < widening.connections:
            lanes.open()
            now = _measured(lanes, widening.measure_s, clock)
            if now is None:
                return lanes.allowed
            if now < rate * widening.gain:
                lanes.allowed -= 1
                break
            rate = now
        if lanes.allowed == 1:
            # One connection alone need not stop between segments; what is under way is still taken.
            lanes.allowed = 0
        while lanes.append_next():
            pass
        return max(lanes.allowed, 1)
    finally:
        lanes.leave()


def _measured(lanes: "_Lanes", measure_s: float, clock: Clock) -> float | None:
    """Return the bytes a second of the lanes as they are; None where the file is whole before that is known."""
    for _ in range(lanes.allowed):
        # What was under way before the last connection was opened says nothing of it.
        if not lanes.append_next():
            return None
    # What arrives is measured, not what is written: that comes a segment at a time.
    begun, first = clock.monotonic(), lanes.received
    while clock.monotonic() - begun < measure_s:
        if not lanes.append_next():
            return None
    return (lanes.received - first) / (clock.monotonic() - begun)


@dataclass(slots=True)
class _Lanes:
    transfer: Transfer
    total: int
    segment: int
    allowed: int = 0
    failed: bool = False
    left: bool = False
    received: int = 0
    _next: int = field(init=False)
    _under_way: set[int] = field(default_factory=set)
    _done: dict[int, bytes] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._next = self.transfer.file.size

    def open(self) -> None:
        """Add a connection."""
        number = self.allowed
        self.allowed += 1
        thread = threading.Thread(target=self._work, args=(number,), name=f"mecha-lane-{number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def leave(self) -> None:
        """Let all connections go; one that is silent ends with its own timeout."""
        with self._changed:
            self.allowed, self.left = 0, True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_LEAVE_S)

    def append_next(self) -> bool:
        """Write the segment that comes next, when it is here; False when none will come."""
        file = self.transfer.file
        with self._changed:
            while file.size not in self._done:
                idle = self.allowed == 0 or self._next >= self.total
                if self.failed or (idle and file.size not in self._under_way):
                    return False
                self._changed.wait(1.0)
            body = self._done.pop(file.size)
        file.append(body)
        self.transfer.progress("download", file.size, self.total)
        with self._changed:
            self._changed.notify_all()
        return True

    def _work(self, number: int) -> None:
        while (start := self._take(number)) is not None:
            try:
                body = self._fetched(start)
            except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, MechaError, RuntimeError):
                body = None  # also of a client that was closed meanwhile
            with self._changed:
                self._under_way.discard(start)
                if body is None:
                    self.failed = True
                else:
                    self._done[start] = body
                    self.transfer.transferred_bytes += len(body)
                self._changed.notify_all()

    def _take(self, number: int) -> int | None:
        """Return the start of the segment to fetch, None when there is none for this connection."""
        with self._changed:
            # What waits to be written is held in memory.
            while self._next - self.transfer.file.size >= (self.allowed + 1) * self.segment:
                if self.failed or number >= self.allowed:
                    return None
                self._changed.wait(1.0)
            if self.failed or number >= self.allowed or self._next >= self.total:
                return None
            start = self._next
            self._next += self.segment
            self._under_way.add(start)
            return start

    def _fetched(self, start: int) -> bytes | None:
        """Return the bytes of a segment, None when the answer is anything but exactly them."""
        remote, validator = self.transfer.remote, self.transfer.file.known_validator
        end = min(start + self.segment, self.total)
        headers = {**remote.headers, "Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
        if validator is not None:
            headers["If-Range"] = validator
        body = bytearray()
        with following(self.transfer.line, remote, headers) as response:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
            said = tuple(map(int, match.groups())) if match is not None else ()
            plain = response.headers.get("content-encoding", "identity").strip().lower() in {"", "identity"}
            if response.status_code != HTTPStatus.PARTIAL_CONTENT or said != (start, end - 1, self.total) or not plain:
                return None
            if validator is not None and response.headers.get("etag", validator) != validator:
                return None
            for chunk in response.iter_raw():
                body += chunk
                with self._changed:
                    self.received += len(chunk)
                if self.failed or self.left or len(body) > end - start:
                    return None
        return bytes(body) if len(body) == end - start else None
