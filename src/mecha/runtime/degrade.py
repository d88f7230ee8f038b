"""Doing less on purpose: when the device is too hot or has too much to do, and all of it again when it is not."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mecha.runtime.heat_watch import HeatWatch, Warmth
from mecha.runtime.hysteresis import Hysteresis, Patience
from mecha.runtime.ladder import Relief
from mecha.runtime.power import SYS
from mecha.runtime.timing import Gaps

_LOOK_S = 1.0
# No frames for so long: the camera is gone, and what was counted says nothing.
_SILENCE_S = 5.0
_MANY_DROPPED = 0.1
_FEW_DROPPED = 0.03
_NEWEST_WEIGHS = 0.2
"""Of the last second in what is usual: on a machine that others use too, a frame is lost now and then."""
_BUSY = 0.5
"""Of its time; a detector that is idle more than that does not drop frames for want of it."""
_ROOM = 0.8


@dataclass(frozen=True, slots=True)
class Load:
    """What a second of frames was like.

    Attributes:
        dropped: share of the frames that never came to the detector, 0 to 1; those it left out on purpose are none.
        busy: share of the time in which it worked, 0 to 1.
        usual: as dropped, of the seconds before too.
    """

    dropped: float
    busy: float
    usual: float

    @property
    def trouble(self) -> str:
        """Why this is too much, "" when it is not."""
        if self.dropped < _MANY_DROPPED or self.busy < _BUSY:
            return ""
        return f"{self.dropped * 100:.0f} % of the frames were dropped"

    def has_room(self, times: float) -> bool:
        """Tell whether so many times as much work would do."""
        return self.usual <= _FEW_DROPPED and self.busy * times <= _ROOM


@dataclass(frozen=True, slots=True)
class Change:
    """A step on the ladder.

    Attributes:
        was: what was done less before, in words, "" for nothing; now: the same since.
        reason: why.
        down: the step is one down the ladder.
        relief: what is done less now.
    """

    was: str
    now: str
    reason: str
    down: bool
    relief: Relief


class Degrading:
    """Goes down a ladder and back. One thread calls it, that of the frames, between two of them.

    Args:
        ladder: rungs as `mecha.runtime.ladder.RungText` takes them.
        helps: tells whether something else would run with the second relief than with the first.
        on_change: called at each step; `relief` is the new one.
        sys_root: where the system shows its heat.
        clock: monotonic seconds.

    Attributes:
        relief: what is done less now.
    """

    def __init__(
        self,
        *,
        helps: Callable[[Relief, Relief], bool],
        on_change: Callable[[Change], None],
        log: logging.Logger,
        sys_root: Path = SYS,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.relief = Relief()
        self._helps, self._on_change, self._log = helps, on_change, log
        self._sys_root, self._patience, self._clock = sys_root, patience, clock
        self._ladder: tuple[str, ...] = ()
        self._heat: HeatWatch | None = None
        self._hysteresis = Hysteresis(patience)
        self._in_force: list[int] = []
        self._gaps = Gaps()
        self._left = 0
        self._at_the_end = False
        self._usual: float | None = None
        self._begin()

    def switch(self, ladder: Sequence[str] | None) -> None:
        """Go down this ladder from now on; None is for doing all there is to do."""
        if (None if self._heat is None else self._ladder) == (None if ladder is None else tuple(ladder)):
            return
        self._hysteresis = Hysteresis(self._patience)
        self._move([], "switched off" if ladder is None else "another ladder")
        self._ladder = tuple(ladder or ())
        if ladder is None and self._heat is not None:
            self._heat.close()
            self._heat = None
        elif ladder is not None and self._heat is None:
            self._heat = HeatWatch(self._sys_root)
        self._begin()

    def close(self) -> None:
        """End, without a word."""
        if self._heat is not None:
            self._heat.close()
            self._heat = None

    def takes(self, seq: int) -> bool:
        """Count a frame that came; returns whether it is to be worked on."""
        if self._heat is None:
            return True
        self._missed += self._gaps.missed("", seq)
        self._came += 1
        now_s = self._clock()
        if now_s - self._since_s >= _LOOK_S:
            self._look(now_s, self._heat.warmth)
        if self._left > 0:
            self._left -= 1
            return False
        self._left = self.relief.skip
        return True

    def worked(self, ms: float) -> None:
        """Count what a frame took."""
        self._busy_ms += ms

    def _begin(self) -> None:
        self._since_s = self._clock()
        self._came = self._missed = 0
        self._busy_ms = 0.0

    def _look(self, now_s: float, warmth: Warmth) -> None:
        seconds = now_s - self._since_s
        told = seconds <= _SILENCE_S
        load = self._load(seconds)
        self._usual = load.usual if told else None
        self._begin()
        trouble = (warmth.trouble or load.trouble) if told else ""
        before = Relief.of([self._ladder[rung] for rung in self._in_force[:-1]])
        more = (self.relief.skip + 1) / (before.skip + 1)
        calm = told and bool(self._in_force) and warmth.cool and load.has_room(more)
        direction = self._hysteresis.step(now_s, trouble=bool(trouble), calm=calm)
        if direction > 0 and not self._at_the_end:
            rung = self._next_rung()
            if rung is None:
                self._at_the_end = True
                self._log.warning("%s, and nothing more of the ladder would help", trouble)
                return
            self._move([*self._in_force, rung], trouble)
            self._hysteresis.stepped(now_s, direction)
        elif direction < 0:
            self._move(self._in_force[:-1], "there is room again")
            self._hysteresis.stepped(now_s, direction)

    def _load(self, seconds: float) -> Load:
        dropped = self._missed / (self._came + self._missed)
        usual = dropped if self._usual is None else self._usual + _NEWEST_WEIGHS * (dropped - self._usual)
        return Load(dropped, self._busy_ms / 1e3 / seconds, usual)

    def _next_rung(self) -> int | None:
        """Return the next rung that makes something easier here, None when there is none."""
        held = [self._ladder[rung] for rung in self._in_force]
        for rung in range(self._in_force[-1] + 1 if self._in_force else 0, len(self._ladder)):
            relief = Relief.of([*held, self._ladder[rung]])
            if relief.skip > self.relief.skip or (relief.skip == self.relief.skip and self._helps(self.relief, relief)):
                return rung
        return None

    def _move(self, in_force: list[int], reason: str) -> None:
        was = self.relief.words()
        self._at_the_end = False
        self._usual = None
        down = len(in_force) > len(self._in_force)
        self._in_force = in_force
        self.relief = Relief.of([self._ladder[rung] for rung in in_force])
        now = self.relief.words()
        if was != now:
            self._on_change(Change(was, now, reason, down, self.relief))
