"""Whether a node that ended is started again, and when."""

from collections import deque

from mecha.errors import ConfigError, IntegrityError, NotFoundError, UsageError
from mecha.project import NodeSettings

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 8.0

_FINAL = frozenset(kind.exit_code for kind in (UsageError, ConfigError, NotFoundError, IntegrityError))
"""What the next start would meet again: somebody has to do something first."""


class RestartPolicy:
    """Restarts after a pause that doubles, `restart_limit` times in `restart_window_s` seconds at most.

    A node that was never ready and ends for a reason that will not go away by itself is not started again. One that was
    ready before is: a camera that was unplugged is not found either, until it is plugged in again.
    """

    def __init__(self, settings: NodeSettings | None = None) -> None:
        self._settings = settings or NodeSettings()
        self._ends: deque[float] = deque()
        self._failed_starts = 0

    @property
    def count(self) -> int:
        """Ends within the window, as of the last one; or failed starts in a row, when those are more.

        A start that takes a minute and then fails would be tried for ever otherwise.
        """
        return max(len(self._ends), self._failed_starts)

    @property
    def exhausted(self) -> bool:
        """There were more of them than the limit allows."""
        return self.count > self._settings.restart_limit

    def wants(self, exit_code: int) -> bool:
        """Tell whether a node that ended so is one to be started again, whatever the limit says."""
        mode = self._settings.restart
        return mode == "always" or (mode == "on-failure" and exit_code != 0)

    def delay_s(self, exit_code: int, now_s: float, *, was_ready: bool, ready: bool = True) -> float | None:
        """Return the seconds to wait before the next start, None for none.

        Args:
            exit_code: of the process, negative for a signal.
            now_s: when it ended, on a monotonic clock.
            was_ready: the node was set up once since the supervisor began.
            ready: this process of it was.
        """
        if not self.wants(exit_code) or (exit_code in _FINAL and not was_ready):
            return None
        self._ends.append(now_s)
        self._failed_starts = 0 if ready else self._failed_starts + 1
        while now_s - self._ends[0] > self._settings.restart_window_s:
            self._ends.popleft()
        if self.exhausted:
            return None
        return min(_FIRST_DELAY_S * 2.0 ** (self.count - 1), _LONGEST_DELAY_S)
