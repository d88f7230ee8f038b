"""How warm the device is, looked at beside the frames: some sensors take their time to answer."""

import threading
from dataclasses import dataclass
from pathlib import Path

from mecha.runtime.power import SYS, Heat, heat

_PERIOD_S = 2.0
COOL_C = 5.0
"""Degrees below the limit from which a device counts as cool: at the limit itself it would swing."""


@dataclass(frozen=True, slots=True)
class Warmth:
    """What heat does to a device.

    Attributes:
        trouble: what slows it down or is about to, "" when nothing does.
        cool: there is room; neither is in between.
    """

    trouble: str = ""
    cool: bool = True


class HeatWatch:
    """Reads the heat of the device in a thread of its own.

    Args:
        sys_root: where Linux shows it. A system that tells nothing is cool.
    """

    def __init__(self, sys_root: Path = SYS, *, period_s: float = _PERIOD_S) -> None:
        self._sys_root = sys_root
        self._period_s = period_s
        self._closed = threading.Event()
        self._before = heat(sys_root)
        self.warmth = warmth(self._before, self._before)
        self._thread = threading.Thread(target=self._watch, name="heat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(self._period_s):
            now = heat(self._sys_root)
            self.warmth = warmth(self._before, now)
            self._before = now


def warmth(before: Heat, now: Heat) -> Warmth:
    """Return what two looks at a device, one after the other, say together."""
    hot = now.headroom_c is not None and now.headroom_c <= 0
    cool = now.headroom_c is None or now.headroom_c >= COOL_C
    counts = before.throttle_count, now.throttle_count
    slowed = counts[0] is not None and counts[1] is not None and counts[1] > counts[0]
    trouble = now.throttled or ("the CPU was slowed down for its heat" if slowed else "")
    if not trouble and hot:
        trouble = f"{now.part} is at {now.temperature_c:.0f} °C"
    return Warmth(trouble, cool and not trouble)
