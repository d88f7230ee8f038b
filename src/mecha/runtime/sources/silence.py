"""How long nothing has come."""

_LONGEST_LOOK_S = 0.5


class Silence:
    """How long nothing has happened, by looking a few times a second.

    A look that comes late counts for little: where a machine was suspended, or all of a process held up, nothing was
    missed.
    """

    def __init__(self) -> None:
        self._mark: int | None = None
        self._looked_s = 0.0
        self._lasted_s = 0.0

    def look(self, mark: int | None, now_s: float) -> float:
        """Return for how many seconds the mark was the same one; None is no mark."""
        same = mark is not None and mark == self._mark
        self._lasted_s = self._lasted_s + min(now_s - self._looked_s, _LONGEST_LOOK_S) if same else 0.0
        self._mark, self._looked_s = mark, now_s
        return self._lasted_s
