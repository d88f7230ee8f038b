"""How long what was swapped in has to show that it is quick enough, and what it is compared with."""

from statistics import median

FRAMES = 30
FEWEST = 10
"""Frames after which the median counts for the first time; it counts for good after `FRAMES`."""


class Probation:
    """The first frames of what was swapped in.

    Args:
        budget_ms: a frame may take so long, None is any time.
        before_ms: median of what ran before, None where it is not known.
    """

    def __init__(self, *, budget_ms: float | None, before_ms: float | None) -> None:
        self._budget_ms = budget_ms
        self._before_ms = before_ms
        self._times_ms: list[float] = []

    @property
    def over(self) -> bool:
        """All its frames have come."""
        return len(self._times_ms) >= FRAMES

    def fault_with(self, ms: float) -> str:
        """Note a frame; return why what ran before is to run again, "" when it is not.

        What is over the budget stays where what ran before was no quicker: there is nothing to gain by going back.
        """
        if self.over:
            return ""
        self._times_ms.append(ms)
        if self._budget_ms is None or self._before_ms is None or len(self._times_ms) not in {FEWEST, FRAMES}:
            return ""
        takes_ms = median(self._times_ms)
        if takes_ms <= self._budget_ms or takes_ms <= self._before_ms:
            return ""
        return f"a frame takes {takes_ms:.1f} ms; expected latency_budget_ms = {self._budget_ms:g} or less"
