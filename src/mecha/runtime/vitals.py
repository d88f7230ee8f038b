"""What a node counts and says of itself, told once a second: the sign that it lives."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

from mecha.runtime.timing import NodeStats, Timings

BEAT_S = 1.0
"""How often a node tells how it does."""
_STAGES_KEPT = 1000
_SHORTEST_S = 0.5
"""Over less time than this a rate says little; the one before it is told again."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """The counters at one moment."""

    at_s: float
    arrived: int
    published: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class _Rates:
    fps_in: float = 0.0
    fps_out: float = 0.0
    cpu_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came to a node.

    Attributes:
        count: messages on its first input, those that newer ones replaced included.
        dropped: see `NodeStats`; so is seen.
    """

    count: int = 0
    dropped: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)


class Vitals:
    """The figures of one node, kept by its own thread.

    Args:
        reads: it has inputs.
        writes: it has outputs.
        clock: monotonic seconds.

    Attributes:
        frames: processed, or published by a node without inputs.
        published: messages that were published on the first output.
        published_frames: frames that were published, on any output.
        missed: what came to a source by itself and was not taken in time.
        stale: see `NodeStats`; so is degraded.
    """

    def __init__(self, *, reads: bool, writes: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.frames = 0
        self.published = 0
        self.published_frames = 0
        self.missed = 0
        self.stale = False
        self.degraded = ""
        self._reads = reads
        self._writes = writes
        self._clock = clock
        self._precision: str | None = None
        self._timings = Timings()
        self._stages: dict[str, Timings] = {}
        self._process = psutil.Process()
        self._rates = _Rates()
        self._mark = _Mark(clock(), 0, 0, self._cpu_s())
        self._tell: Callable[[NodeStats], None] | None = None
        self._arrivals: Callable[[], Arrivals] = Arrivals
        self._thread: int | None = None
        self._told_s = 0.0

    def begin(self, tell: Callable[[NodeStats], None], arrivals: Callable[[], Arrivals]) -> None:
        """Beat from now on, in the calling thread.

        Args:
            tell: gets the figures.
            arrivals: gives what came so far.
        """
        self._tell, self._arrivals = tell, arrivals
        self._thread = threading.get_ident()
        self.tell()

    def beat(self) -> None:
        """Tell how the node does when it is time again.

        Nothing is told in other threads: it is the one that steps that must be seen to live.
        """
        due = self._clock() - self._told_s >= BEAT_S
        if due and self._tell is not None and self._thread == threading.get_ident():
            self.tell()

    def tell(self) -> None:
        """Tell it now."""
        self._told_s = self._clock()
        if self._tell is not None:
            self._tell(self.stats())

    def frame(self, ms: float) -> None:
        """Note how long a frame took."""
        self._timings.add(ms)

    def inference(self, precision: str, stages: Mapping[str, float] | None) -> None:
        """Note what a model ran with, and the milliseconds of each of its stages where they are known."""
        self._precision = precision
        for name, ms in (stages or {}).items():
            self._stages.setdefault(name, Timings(_STAGES_KEPT)).add(ms)

    def stats(self) -> NodeStats:
        """Return the figures; rates are those since the last call."""
        arrivals = self._arrivals()
        self._measure(arrivals.count)
        spread = self._timings.spread
        stages = {name: found for name, timings in self._stages.items() if (found := timings.spread) is not None}
        return NodeStats(
            frames=self.frames,
            dropped=arrivals.dropped,
            p50_ms=None if spread is None else spread.p50_ms,
            p95_ms=None if spread is None else spread.p95_ms,
            rss_mb=self._process.memory_info().rss / 1e6,
            fps_in=self._rates.fps_in if self._reads else None,
            fps_out=self._rates.fps_out if self._writes else None,
            cpu_percent=self._rates.cpu_percent,
            precision=self._precision,
            stages=stages or None,
            stale=self.stale,
            degraded=self.degraded,
            seen=arrivals.seen,
        )

    def _measure(self, arrived: int) -> None:
        last, now = self._mark, _Mark(self._clock(), arrived, self.published, self._cpu_s())
        seconds = now.at_s - last.at_s
        if seconds < _SHORTEST_S:
            return
        self._mark = now
        self._rates = _Rates(
            (now.arrived - last.arrived) / seconds,
            (now.published - last.published) / seconds,
            (now.cpu_s - last.cpu_s) / seconds * 100,
        )

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)
