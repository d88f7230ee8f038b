"""When to step down a ladder and when to step up again: late enough not to swing, early enough to help."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long something lasts before it counts, seconds.

    Attributes:
        trouble_s: of trouble before a step down.
        settle_s: after a step before anything counts: what is loaded must run, and what it saves must show.
        calm_s: without trouble before a step up.
        longest_calm_s: each step up that is followed by trouble doubles `calm_s`, up to this.
    """

    trouble_s: float = 3.0
    settle_s: float = 5.0
    calm_s: float = 30.0
    longest_calm_s: float = 600.0


class Hysteresis:
    """Decides about one step at a time. Pure: the time comes in."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._calm_s = self._patience.calm_s
        self._since: tuple[str, float] | None = None
        self._settled_s = 0.0
        self._up_s: float | None = None

    def step(self, now_s: float, *, trouble: bool, calm: bool) -> int:
        """Return 1 for a step down the ladder, -1 for one back, 0 for none.

        Args:
            trouble: too hot, or too much to do.
            calm: none of it, and room for a step back; neither is a reason to stay.
        """
        state = "trouble" if trouble else "calm" if calm else ""
        if self._since is None or self._since[0] != state or now_s < self._settled_s:
            self._since = (state, max(now_s, self._settled_s))
        lasts_s = now_s - self._since[1]
        if state == "trouble" and lasts_s >= self._patience.trouble_s:
            return 1
        return -1 if state == "calm" and lasts_s >= self._calm_s else 0

    def stepped(self, now_s: float, direction: int) -> None:
        """Note that a step was made: what is needed for the next one begins now."""
        patience = self._patience
        self._since, self._settled_s = None, now_s + patience.settle_s
        if direction < 0:
            self._up_s = now_s
        elif self._up_s is not None:
            # A step back that did not hold is tried again later and later.
            held_s = now_s - self._up_s
            if held_s < max(self._calm_s, patience.calm_s):
                self._calm_s = min(2 * self._calm_s, patience.longest_calm_s)
            else:
                self._calm_s = patience.calm_s
            self._up_s = None
