"""When a frame was taken, which is before it was read."""

_LONGEST_S = 5.0
_DRIFT = 5e-4


class StreamClock:
    """Reckons by the clock of a camera that is somewhere else.

    A frame comes late by what encoding, the network and decoding took. What all frames need cannot be known from here;
    what one needs more than the quickest can, and is taken off. So frames that were held up and come all at once are
    dated as far apart as they were taken.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._position_s = 0.0
        self._now_s = 0.0

    def age_s(self, position_s: float, now_s: float) -> float:
        """Return how long ago a frame was taken, 0 where that cannot be known.

        Args:
            position_s: of the frame, on the clock of the camera.
            now_s: when it was read, on a monotonic clock of this machine.
        """
        offset_s = now_s - position_s
        # Two clocks run apart by less than this.
        best_s = None if self._offset_s is None else self._offset_s + _DRIFT * (now_s - self._now_s)
        # A clock that begins again, or stands still because there is none, says nothing.
        began_again = position_s <= self._position_s
        if best_s is None or began_again or not 0 < offset_s - best_s < _LONGEST_S:
            best_s = offset_s
        self._offset_s, self._position_s, self._now_s = best_s, position_s, now_s
        return offset_s - best_s


def device_age_s(stamp_s: float, now_s: float) -> float:
    """Return how long ago a camera of this machine took a frame, 0 where it does not tell.

    Args:
        stamp_s: what the driver wrote on it; most use the monotonic clock, and 0 or another clock says nothing.
        now_s: the monotonic clock.
    """
    age_s = now_s - stamp_s
    return age_s if stamp_s > 0 and 0 <= age_s < _LONGEST_S else 0.0
