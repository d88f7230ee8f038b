"""What a node counts and says of itself."""

import threading

import pytest

from mecha.runtime.timing import NodeStats, Spread
from mecha.runtime.vitals import Arrivals, Vitals


class Bench:
    """Vitals, with a clock in hand."""

    def __init__(self, *, reads: bool = True, writes: bool = True) -> None:
        self.now_s = 100.0
        self.arrived = 0
        self.told: list[NodeStats] = []
        self.vitals = Vitals(reads=reads, writes=writes, clock=lambda: self.now_s)

    def begin(self) -> None:
        self.vitals.begin(self.told.append, lambda: Arrivals(self.arrived, 7, {"/camera/rgb": 41}))

    def after(self, seconds: float) -> None:
        self.now_s += seconds
        self.vitals.beat()


def test_it_tells_at_once_and_then_once_a_second() -> None:
    bench = Bench()
    bench.vitals.beat()
    bench.begin()
    for _ in range(10):
        bench.after(0.4)

    assert len(bench.told) == 4
    assert bench.told[0] == NodeStats(
        dropped=7, rss_mb=bench.told[0].rss_mb, fps_in=0.0, fps_out=0.0, cpu_percent=0.0, seen={"/camera/rgb": 41}
    )


def test_rates_are_those_since_it_told_last_and_not_of_an_instant() -> None:
    bench = Bench()
    bench.begin()
    bench.arrived, bench.vitals.published = 60, 30
    bench.after(2.0)
    bench.arrived, bench.vitals.published = 90, 60
    bench.now_s += 0.1
    bench.vitals.tell()

    assert [(stats.fps_in, stats.fps_out) for stats in bench.told] == [(0.0, 0.0), (30.0, 15.0), (30.0, 15.0)]


@pytest.mark.parametrize(("reads", "writes"), [(True, False), (False, True)])
def test_what_it_does_not_do_has_no_rate(reads: bool, writes: bool) -> None:
    bench = Bench(reads=reads, writes=writes)
    bench.begin()

    assert (bench.told[0].fps_in is None, bench.told[0].fps_out is None) == (not reads, not writes)


def test_only_the_thread_that_steps_shows_that_the_node_lives() -> None:
    bench = Bench()
    bench.begin()
    bench.now_s += 5

    other = threading.Thread(target=bench.vitals.beat)
    other.start()
    other.join()

    assert len(bench.told) == 1


def test_stages_come_and_go_as_events() -> None:
    bench = Bench()
    bench.begin()
    for session_ms in (3.0, 1.0, 2.0):
        bench.vitals.inference("INT8", {"pre": 0.5, "session": session_ms})
        bench.vitals.frame(session_ms + 0.5)
    bench.after(1)

    stats = bench.told[-1]
    assert stats.stages == {"pre": Spread(0.5, 0.5), "session": Spread(2.0, 3.0)}
    assert (stats.precision, stats.p50_ms, stats.p95_ms) == ("INT8", 2.5, 3.5)
    event = stats.to_event()
    assert event["stages"] == {"pre": {"p50": 0.5, "p95": 0.5}, "session": {"p50": 2.0, "p95": 3.0}}
    assert NodeStats.of_event(event).stages == stats.stages
