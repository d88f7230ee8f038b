"""When frames go out: in real time, not more often than wanted, every so many."""

_PATIENCE_S = 1.0


class Pace:
    """When the frames of a recording are due, so that it plays in real time.

    A source that cannot keep up plays slower: no frame is left out. What is late by more than a second is not made up
    for: nobody wants the burst.

    Args:
        fps: frames per second.
    """

    def __init__(self, fps: float) -> None:
        self._period_s = 1.0 / fps
        self._due_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the next frame is due, and count it as sent then."""
        due_s = now_s if self._due_s is None else self._due_s
        if now_s - due_s > _PATIENCE_S:
            due_s = now_s
        self._due_s = due_s + self._period_s
        return max(0.0, due_s - now_s)


class Thinning:
    """Which frames of a stream are sent.

    Args:
        skip: frames to leave out after each one that is sent.
        max_fps: at most so many a second, None for no limit.
        fps: of a recording: then the choice is the same on every machine. None for a camera, which may give fewer
            frames than it says, in the dark for instance.
    """

    def __init__(self, *, skip: int = 0, max_fps: float | None = None, fps: float | None = None) -> None:
        self._every = skip + 1
        self._max_fps = max_fps
        self._ratio = None if max_fps is None or fps is None else min(1.0, max_fps * self._every / fps)
        self._count = -1
        self._credit = 1.0
        self._due_s: float | None = None

    def keep(self, now_s: float) -> bool:
        """Tell whether the next frame of the stream is sent; call it once for each."""
        self._count += 1
        if self._count % self._every:
            return False
        if self._ratio is not None:
            return self._keep_by_rate(self._ratio)
        return self._max_fps is None or self._keep_by_clock(1.0 / self._max_fps, now_s)

    def _keep_by_rate(self, ratio: float) -> bool:
        keep = self._credit >= 1.0 - 1e-9
        self._credit += ratio - (1.0 if keep else 0.0)
        return keep

    def _keep_by_clock(self, period_s: float, now_s: float) -> bool:
        # A camera's frames come a little early or late: a tenth of the period lets each of 30 through at 30.
        if self._due_s is not None and now_s < self._due_s - 0.1 * period_s:
            return False
        # From when it was due, not from when it came: 20 of 30 frames a second are 20, not 15.
        on_time = self._due_s is not None and now_s - self._due_s < period_s
        self._due_s = (self._due_s if on_time and self._due_s is not None else now_s) + period_s
        return True
