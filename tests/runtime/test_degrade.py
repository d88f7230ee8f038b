"""Doing less on purpose, and all of it again."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from mecha.errors import ConfigError
from mecha.project import bundled_dir
from mecha.runtime.config import Layer, load_config
from mecha.runtime.degrade import Change, Degrading
from mecha.runtime.heat_watch import HeatWatch, Warmth, warmth
from mecha.runtime.hysteresis import Hysteresis, Patience
from mecha.runtime.ladder import DEFAULT_LADDER, Relief
from mecha.runtime.loader import ModelLoader
from mecha.runtime.power import Heat
from mecha.runtime.program import load_node
from mecha.runtime.variants import Wanted
from mecha.store.models import ModelStore
from tests.detect.blob_detector import blob_detector, blob_spec
from tests.detect.published_blobs import int8_blobs, publish_blobs
from tests.runtime.waiting import wait_for

ASKED = Wanted("m", use_int8=False)


# The ladder


@pytest.mark.parametrize(
    ("rungs", "relief", "words"),
    [
        ([], Relief(), ""),
        (["skip 1"], Relief(skip=1), "skip 1"),
        (["skip 1", "fastest"], Relief(skip=1, fastest=True), "skip 1, fastest"),
        (list(DEFAULT_LADDER), Relief(3, True, 320), "skip 3, fastest, input 320"),
        (["input 480", "input 320"], Relief(input_size=320), "input 320"),
    ],
)
def test_the_rungs_of_a_ladder_add_up(rungs: list[str], relief: Relief, words: str) -> None:
    assert Relief.of(rungs) == relief
    assert relief.words() == words


@pytest.mark.parametrize(
    ("relief", "asked", "expected"),
    [
        (Relief(), Wanted("m", use_int8=True, input_size=640), Wanted("m", use_int8=True, input_size=640)),
        (Relief(fastest=True), Wanted("m", use_int8=True), Wanted("m", use_int8="auto")),
        (Relief(input_size=320), Wanted("m"), Wanted("m", input_size=320)),
        (Relief(input_size=320), Wanted("m", input_size=256), Wanted("m", input_size=256)),
    ],
    ids=["nothing", "the fastest precision", "a smaller input", "an input that is smaller already"],
)
def test_relief_changes_what_was_asked_for(relief: Relief, asked: Wanted, expected: Wanted) -> None:
    assert relief.applied(asked) == expected


def test_a_rung_that_is_none_is_refused_with_its_line() -> None:
    model = load_node(bundled_dir() / "nodes", "object-detector").config_model
    with pytest.raises(ConfigError) as caught:
        load_config(model, [Layer("config.json", b'{\n  "ladder": ["skip 1", "jump 2"]\n}')])
    assert str(caught.value) == (
        'config.json:2: ladder[1]: got "jump 2"; '
        'expected "skip N" (frames left out after each one), "fastest" (precision) or "input N" (pixels)'
    )


@pytest.mark.parametrize(
    ("dynamic", "wanted", "other", "expected"),
    [
        (False, Wanted("blobs", use_int8=False), Wanted("blobs", use_int8="auto"), True),
        (False, Wanted("blobs", use_int8=True), Wanted("blobs", use_int8="auto"), False),
        (False, Wanted("blobs"), Wanted("blobs", input_size=32), False),
        (True, Wanted("blobs", use_int8=False), Wanted("blobs", use_int8=False, input_size=32), True),
        (True, Wanted("blobs", use_int8=False), Wanted("blobs", use_int8=False, input_size=64), False),
        (True, Wanted("blobs", use_int8=False), Wanted("blobs", use_int8=False, input_size=40), False),
        (True, Wanted("none"), Wanted("none", input_size=32), False),
    ],
    ids=[
        "the other precision",
        "the precision that runs",
        "a size that a fixed model does not take",
        "a smaller one of a dynamic model",
        "its own one",
        "one that is no multiple of its stride",
        "no model",
    ],
)
def test_what_makes_no_difference_is_known_before(
    tmp_path: Path, dynamic: bool, wanted: Wanted, other: Wanted, expected: bool
) -> None:
    (tmp_path / "model_catalog.toml").touch()
    publish_blobs(
        ModelStore(tmp_path / "models"),
        int8=None if dynamic else int8_blobs(),
        spec=blob_spec(dynamic=dynamic),
        model=blob_detector(dynamic=dynamic),
    )
    assert ModelLoader(tmp_path).differs(wanted, other) is expected


# Heat


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (Heat(None, None, "", None, None), Heat(None, None, "", None, None), Warmth("", cool=True)),
        (Heat(80, 5, "cpu", "", 3), Heat(80, 5, "cpu", "", 3), Warmth("", cool=True)),
        (Heat(80, 5, "cpu", "", 3), Heat(81, 4, "cpu", "", 3), Warmth("", cool=False)),
        (Heat(80, 5, "cpu", "", 3), Heat(85, 0, "cpu", "", 3), Warmth("cpu is at 85 °C", cool=False)),
        (Heat(50, 35, "cpu", "", 3), Heat(50, 35, "cpu", "it is slow", 3), Warmth("it is slow", cool=False)),
        (
            Heat(50, 35, "cpu", "", 3),
            Heat(50, 35, "cpu", "", 4),
            Warmth("the CPU was slowed down for its heat", cool=False),
        ),
    ],
    ids=["nothing told", "cool", "in between", "at the limit", "throttled", "throttled meanwhile"],
)
def test_what_is_trouble_and_what_is_cool(before: Heat, now: Heat, expected: Warmth) -> None:
    assert warmth(before, now) == expected


def test_the_heat_is_looked_at_again_and_again(tmp_path: Path) -> None:
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("40000")
    watch = HeatWatch(tmp_path, period_s=0.01)
    try:
        assert watch.warmth == Warmth("", cool=True)
        (zone / "temp").write_text("90000")
        wait_for(lambda: watch.warmth == Warmth("thermal_zone0 is at 90 °C", cool=False), timeout_s=60)
    finally:
        watch.close()


# When


def steps(hysteresis: Hysteresis, states: str) -> list[tuple[int, int]]:
    """What is done about a state a second, by second: "t" is trouble, "c" calm, "." neither."""
    made = []
    for second, state in enumerate(states):
        direction = hysteresis.step(float(second), trouble=state == "t", calm=state == "c")
        if direction:
            hysteresis.stepped(float(second), direction)
            made.append((second, direction))
    return made


PATIENCE = Patience(trouble_s=3, settle_s=5, calm_s=10, longest_calm_s=40)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("ttt", []),
        ("tttt", [(3, 1)]),
        ("tt.tt.tt.tt", []),
        ("t" * 12, [(3, 1), (11, 1)]),
        ("tttt" + "c" * 15, [(3, 1), (18, -1)]),
        ("tttt" + "c" * 14 + "." + "c" * 9, [(3, 1)]),
        ("." * 60, []),
    ],
    ids=[
        "not long enough",
        "long enough",
        "with pauses",
        "one step, then what it saves must show, then the next",
        "calm for long enough",
        "calm with a pause",
        "neither",
    ],
)
def test_a_step_takes_its_time(states: str, expected: list[tuple[int, int]]) -> None:
    assert steps(Hysteresis(PATIENCE), states) == expected


def test_a_step_back_that_does_not_hold_is_tried_again_later_and_later() -> None:
    hysteresis = Hysteresis(PATIENCE)
    second, waits = 0, []
    direction = 1
    for _ in range(4):
        while not hysteresis.step(float(second), trouble=direction > 0, calm=False):
            second += 1
        hysteresis.stepped(float(second), 1)
        began = second
        while not hysteresis.step(float(second), trouble=False, calm=True):
            second += 1
        hysteresis.stepped(float(second), -1)
        waits.append(second - began - 5)

    assert waits == [10, 20, 40, 40]


def test_a_step_back_that_held_is_forgotten() -> None:
    hysteresis = Hysteresis(PATIENCE)
    back = steps(hysteresis, "tttt" + "c" * 15 + "." * 60 + "t" * 4 + "c" * 16)

    assert back == [(3, 1), (18, -1), (82, 1), (97, -1)]


# Together


class Bench:
    """A detector that is told of frames, a second at a time."""

    def __init__(self, tmp_path: Path, helps: Callable[[Relief, Relief], bool] = lambda was, now: True) -> None:
        self.now_s = 0.0
        self.seq = 0
        self.changes: list[Change] = []
        self.degrading = Degrading(
            helps=helps,
            on_change=self.changes.append,
            log=logging.getLogger("degrade"),
            sys_root=tmp_path,
            patience=PATIENCE,
            clock=lambda: self.now_s,
        )

    def seconds(self, count: int, *, fps: int = 10, dropped: int = 0, ms: float = 90.0) -> int:
        """Let frames come, of which each `dropped` are lost after one; returns how many were worked on."""
        worked = 0
        for _ in range(count * fps):
            self.now_s += 1 / fps
            self.seq += 1
            if dropped and self.seq % (dropped + 1):
                continue
            if self.degrading.takes(self.seq):
                self.degrading.worked(ms)
                worked += 1
        return worked

    def words(self) -> list[tuple[str, str]]:
        return [(change.was, change.now) for change in self.changes]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_switched_off_it_takes_every_frame_and_looks_at_nothing(bench: Bench) -> None:
    assert bench.seconds(60, dropped=1, ms=200) == 300
    assert bench.changes == []
    assert bench.degrading._heat is None


def test_a_detector_that_is_too_slow_goes_down_the_ladder_rung_by_rung(bench: Bench) -> None:
    bench.degrading.switch(DEFAULT_LADDER)
    bench.seconds(60, dropped=1, ms=900)

    assert bench.words() == [
        ("", "skip 1"),
        ("skip 1", "skip 1, fastest"),
        ("skip 1, fastest", "skip 1, fastest, input 320"),
        ("skip 1, fastest, input 320", "skip 3, fastest, input 320"),
    ]
    assert bench.changes[0].reason == "50 % of the frames were dropped"
    bench.degrading.close()


def test_of_two_frames_one_is_left_out(bench: Bench) -> None:
    bench.degrading.switch(["skip 1"])
    bench.seconds(6, dropped=1, ms=200)
    assert bench.words() == [("", "skip 1")]

    assert bench.seconds(2) == 10
    bench.degrading.close()


def test_it_goes_back_when_there_is_room(bench: Bench) -> None:
    bench.degrading.switch(["skip 1", "fastest"])
    bench.seconds(20, dropped=1, ms=200)
    assert bench.degrading.relief == Relief(1, fastest=True)
    # 5 frames of 60 ms a second: twice as many would do too.
    bench.seconds(60, ms=60)

    assert bench.words()[2:] == [("skip 1, fastest", "skip 1"), ("skip 1", "")]
    assert [(change.reason, change.down) for change in bench.changes[1:]] == [
        ("50 % of the frames were dropped", True),
        ("there is room again", False),
        ("there is room again", False),
    ]
    bench.degrading.close()


def test_a_frame_that_is_lost_now_and_then_keeps_nothing_from_going_back(bench: Bench) -> None:
    bench.degrading.switch(["skip 1"])
    bench.seconds(6, dropped=1, ms=200)
    for _ in range(20):
        # One of 50: of the frames of its second it is one in 10.
        bench.seconds(5, ms=40)
        bench.seq += 1

    assert bench.words()[1:] == [("skip 1", "")]
    bench.degrading.close()


def test_it_stays_where_twice_the_frames_would_be_too_much(bench: Bench) -> None:
    bench.degrading.switch(["skip 1"])
    bench.seconds(6, dropped=1, ms=200)
    bench.seconds(120, ms=90)

    assert bench.words() == [("", "skip 1")]
    bench.degrading.close()


def test_frames_that_are_lost_while_the_detector_is_idle_are_no_reason(bench: Bench) -> None:
    bench.degrading.switch(DEFAULT_LADDER)
    bench.seconds(60, dropped=1, ms=5)

    assert bench.changes == []
    bench.degrading.close()


def test_a_camera_that_was_gone_is_no_reason(bench: Bench) -> None:
    bench.degrading.switch(DEFAULT_LADDER)
    for _ in range(20):
        bench.now_s += 6
        bench.seq += 50
        bench.degrading.takes(bench.seq)
        bench.degrading.worked(4000)

    assert bench.changes == []
    bench.degrading.close()


def test_what_makes_no_difference_is_passed_over_and_the_end_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, lambda was, now: False)
    bench.degrading.switch(DEFAULT_LADDER)
    bench.seconds(60, dropped=1, ms=900)

    assert bench.words() == [("", "skip 1"), ("skip 1", "skip 3")]
    assert [record.getMessage() for record in caplog.records] == [
        "50 % of the frames were dropped, and nothing more of the ladder would help"
    ]
    bench.degrading.close()


def test_heat_goes_down_the_ladder_and_coolness_back(tmp_path: Path) -> None:
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("90000")
    bench = Bench(tmp_path)
    bench.degrading.switch(["skip 1"])
    bench.seconds(6, ms=5)
    assert [(change.now, change.reason) for change in bench.changes] == [("skip 1", "thermal_zone0 is at 90 °C")]

    # Below the limit, but near it, it stays.
    heat = bench.degrading._heat
    assert heat is not None
    heat.warmth = Warmth("", cool=False)
    bench.seconds(60, ms=5)
    assert len(bench.changes) == 1
    heat.warmth = Warmth("", cool=True)
    bench.seconds(30, ms=5)

    assert bench.words()[1:] == [("skip 1", "")]
    bench.degrading.close()


def test_switched_off_it_does_everything_again(bench: Bench) -> None:
    bench.degrading.switch(DEFAULT_LADDER)
    bench.seconds(6, dropped=1, ms=200)
    bench.degrading.switch(None)

    assert [(change.now, change.reason) for change in bench.changes[1:]] == [("", "switched off")]
    assert bench.seconds(1) == 10
