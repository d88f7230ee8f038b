"""When what failed is tried again."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mecha.errors import BusyError, DiskError, MechaError, NetworkError

LONGEST_REST_S = 60.0
_REST_S = 0.2


@dataclass(frozen=True, slots=True)
class Patience:
    """How often what failed is tried again.

    Attributes:
        first_s: before the second try; the pause doubles from try to try.
        longest_s: where the doubling ends.
        tries: how many in a row, where nothing but a changed file would help; what waits for a network or a disk is
            tried for as long as it takes.
        build_first_s: as first_s, for INT8 that could not be built: that costs minutes of a processor.
        node_first_s: as first_s, for a node that its supervisor gave up; node_longest_s the same.
    """

    first_s: float = 2.0
    longest_s: float = 300.0
    tries: int = 5
    build_first_s: float = 60.0
    node_first_s: float = 30.0
    node_longest_s: float = 600.0

    def pause_s(self, tries: int, first_s: float | None = None, longest_s: float | None = None) -> float:
        """Return how long to wait after so many tries in a row, 1 or more."""
        first_s = self.first_s if first_s is None else first_s
        return float(min(first_s * 2.0 ** min(tries - 1, 30), longest_s or self.longest_s))


@dataclass(slots=True)
class Task:
    """What is to be done for one model. Used under the lock of the supply.

    Attributes:
        due_s: when it is looked at next, on the monotonic clock; None when nothing but a change brings it up again.
        tries: that failed in a row.
        verified: its files were read since the daemon began.
        changes: counts what it was read from as it changed: a try that began before a change says nothing of it.
        mirror_fault: why the Hub could not be reached for it, "" where it could, or was not needed.
    """

    name: str
    due_s: float | None = 0.0
    tries: int = 0
    verified: bool = False
    changes: int = 0
    mirror_fault: str = ""

    def change(self, now_s: float) -> None:
        """Begin anew: what it was read from has changed."""
        self.due_s, self.tries = now_s, 0
        self.changes += 1

    def succeed(self) -> None:
        """Rest until something changes."""
        self.due_s, self.tries, self.mirror_fault = None, 0, ""

    def fail(self, error: MechaError, patience: Patience, now_s: float) -> float | None:
        """Note a failed try, and return the seconds until the next one; None for none."""
        self.tries += 1
        self.mirror_fault = str(error) if isinstance(error, NetworkError) else ""
        lasting = not isinstance(error, NetworkError | DiskError | BusyError)
        return self._again(patience.pause_s(self.tries), now_s, lasting and self.tries >= patience.tries)

    def fail_build(self, patience: Patience, now_s: float) -> float | None:
        """Note that INT8 could not be built while FP32 is there, and return the seconds until the next try, or None."""
        self.tries += 1
        self.mirror_fault = ""
        longest_s = max(patience.longest_s, patience.build_first_s * 2**patience.tries)
        pause_s = patience.pause_s(self.tries, patience.build_first_s, longest_s)
        return self._again(pause_s, now_s, self.tries >= patience.tries)

    def _again(self, pause_s: float, now_s: float, over: bool) -> float | None:
        self.due_s = None if over else now_s + pause_s
        return None if over else pause_s


def moment_in(pause_s: float | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> str | None:
    """Return the time in so many seconds, ISO 8601, UTC; None of None."""
    return None if pause_s is None else (now() + timedelta(seconds=pause_s)).isoformat(timespec="seconds")


def rest_s(moments: Iterable[float]) -> float:
    """Return how long there is nothing to do, where something is to be done at these moments of the monotonic clock."""
    now_s = time.monotonic()
    return max(_REST_S, min([LONGEST_REST_S, *(due_s - now_s for due_s in moments)]))
