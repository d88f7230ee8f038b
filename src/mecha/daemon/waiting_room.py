"""How many requests may wait, and with how many bytes: what comes past it is told when to come again."""

import math
import threading
from dataclasses import dataclass

_FIRST_GUESS_S = 0.1
_NEW_SHARE = 0.2
_LONGEST_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class Room:
    """What there is room for.

    Attributes:
        seats: requests at a time, those that are worked on included.
        size_bytes: of all their bodies together.
    """

    seats: int = 16
    size_bytes: int = 64 << 20


class WaitingRoom:
    """Counts who waits. Used from any thread."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._taken = 0
        self._bytes = 0
        self._each_s = _FIRST_GUESS_S

    @property
    def taken(self) -> int:
        """How many wait, or are worked on."""
        with self._lock:
            return self._taken

    def enter(self, size_bytes: int) -> bool:
        """Take a seat for a body of at most so many bytes; False where there is none."""
        with self._lock:
            if self._taken >= self._room.seats or self._bytes + size_bytes > self._room.size_bytes:
                return False
            self._taken += 1
            self._bytes += size_bytes
            return True

    def leave(self, size_bytes: int) -> None:
        """Give the seat back."""
        with self._lock:
            self._taken -= 1
            self._bytes -= size_bytes

    def worked(self, seconds: float) -> None:
        """Note how long one took, from its turn on."""
        with self._lock:
            self._each_s += _NEW_SHARE * (seconds - self._each_s)

    @property
    def retry_s(self) -> int:
        """Whole seconds after which there is a seat again, if nobody else comes."""
        with self._lock:
            return min(_LONGEST_RETRY_S, max(1, math.ceil(self._taken * self._each_s)))
