"""Whether a node that failed is started again, and when."""

from collections import deque

from mecha.errors import ConfigError, IntegrityError, NotFoundError, UsageError

LIMIT = 5
WINDOW_S = 60.0
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 8.0

_FINAL = frozenset(kind.exit_code for kind in (UsageError, ConfigError, NotFoundError, IntegrityError))
"""What the next start would meet again: somebody has to do something first."""


class RestartPolicy:
    """Restart on failure, after a pause that doubles, LIMIT times in WINDOW_S seconds at most.

    A node that was never ready and ends for a reason that will not go away by itself is not started again. One that was
    ready before is: a camera that was unplugged is not found either, until it is plugged in again.
    """

    def __init__(self) -> None:
        self._failures: deque[float] = deque()

    @property
    def count(self) -> int:
        """Failures within the window, as of the last one."""
        return len(self._failures)

    def delay_s(self, exit_code: int, now_s: float, *, was_ready: bool) -> float | None:
        """Return the seconds to wait before the next start, None for none.

        Args:
            exit_code: of the process, negative for a signal, never 0.
            now_s: when it ended, on a monotonic clock.
            was_ready: it was set up once since the supervisor began.
        """
        if exit_code in _FINAL and not was_ready:
            return None
        self._failures.append(now_s)
        while now_s - self._failures[0] > WINDOW_S:
            self._failures.popleft()
        if len(self._failures) > LIMIT:
            return None
        return min(_FIRST_DELAY_S * 2.0 ** (len(self._failures) - 1), _LONGEST_DELAY_S)
