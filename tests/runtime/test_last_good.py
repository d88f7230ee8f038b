"""The way back to what ran before, when what takes its place does not work."""

from dataclasses import replace

import pytest

from mecha.runtime.events import Swap
from mecha.runtime.probation import FEWEST, FRAMES, Probation
from mecha.runtime.slot import DetectorSlot
from tests.runtime.fake_detectors import FP32, FRAME, INT8, FakeLoader
from tests.runtime.slots import DEADLINE_S, run_until, said, settled
from tests.runtime.waiting import wait_for


def test_what_throws_gives_way_to_what_ran_before_with_the_same_frame(
    slot: DetectorSlot, loader: FakeLoader, swaps: list[Swap], caplog: pytest.LogCaptureFixture
) -> None:
    slot.start(FP32)
    slot.run(FRAME)
    slot.want(INT8)
    run_until(slot, "INT8")
    loader.faults.raises["INT8"] = RuntimeError("no such kernel")

    # The first frame already, and all after it.
    assert {slot.run(FRAME).precision for _ in range(20)} == {"FP32"}

    said(
        caplog,
        "INT8 of m cannot be used: m-INT8: RuntimeError: no such kernel; running FP32. "
        "`mecha models quantize m` makes INT8.",
    )
    assert [(swap.was, swap.now) for swap in swaps] == [("FP32", "INT8"), ("INT8", "FP32")]
    assert slot.model == "m"


def test_what_ran_well_for_long_gives_way_too(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    slot.run(FRAME)
    slot.want(INT8)
    run_until(slot, "INT8")
    for _ in range(2 * FRAMES):
        slot.run(FRAME)
    loader.faults.raises["INT8"] = MemoryError()

    assert slot.run(FRAME).precision == "FP32"


def test_what_gives_nan_gives_way_with_the_same_frame(
    slot: DetectorSlot, loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    slot.start(FP32)
    slot.run(FRAME)
    slot.want(INT8)
    run_until(slot, "INT8")
    loader.faults.nan.add("INT8")

    result = slot.run(FRAME)

    assert (result.precision, result.nan) == ("FP32", False)
    said(
        caplog,
        "INT8 of m cannot be used: m-INT8: it gives NaN; running FP32. `mecha models quantize m` makes INT8.",
    )


def test_what_is_slower_than_its_budget_gives_way(
    slot: DetectorSlot, loader: FakeLoader, swaps: list[Swap], caplog: pytest.LogCaptureFixture
) -> None:
    loader.faults.ms["INT8"] = 50.0
    slot.start(FP32)
    for _ in range(5):
        slot.run(FRAME)
    slot.want(replace(INT8, latency_budget_ms=40.0))
    run_until(slot, "INT8")

    # Every one of these frames has its result, whichever of the two it is of.
    seen = [slot.run(FRAME).precision for _ in range(FEWEST + 5)]

    assert seen == ["INT8"] * (FEWEST - 1) + ["FP32"] * 6
    said(
        caplog,
        "INT8 of m cannot be used: m-INT8: a frame takes 50.0 ms; expected latency_budget_ms = 40 or less; "
        "running FP32. `mecha models quantize m` makes INT8.",
    )
    assert swaps == [Swap("FP32", "INT8", 30.0, 50.0), Swap("INT8", "FP32", 50.0, 30.0)]


@pytest.mark.parametrize(
    ("budget_ms", "before_ms", "expected"),
    [(None, 10.0, ""), (40.0, 10.0, ""), (20.0, None, ""), (20.0, 35.0, ""), (20.0, 10.0, "a frame takes 30.0 ms; ")],
    ids=["no budget", "within it", "nothing to go back to", "no quicker before", "over it"],
)
def test_a_budget_counts_where_what_ran_before_was_quicker(
    budget_ms: float | None, before_ms: float | None, expected: str
) -> None:
    probation = Probation(budget_ms=budget_ms, before_ms=before_ms)
    faults = [fault for _ in range(2 * FRAMES) if (fault := probation.fault_with(30.0))]

    assert [fault.startswith(expected) for fault in faults] == ([True, True] if expected else [])


def test_a_few_slow_frames_are_no_reason(slot: DetectorSlot) -> None:
    probation = Probation(budget_ms=20.0, before_ms=10.0)
    times = [90.0] * (FEWEST // 2 - 1) + [15.0] * FRAMES

    assert {probation.fault_with(ms) for ms in times} == {""}
    assert probation.over


def test_what_gave_way_is_tried_again_when_it_is_asked_for_again(
    slot: DetectorSlot, loader: FakeLoader, swaps: list[Swap]
) -> None:
    slot.start(FP32)
    slot.run(FRAME)
    slot.want(INT8)
    run_until(slot, "INT8")
    loader.faults.nan.add("INT8")
    run_until(slot, "FP32")
    loader.faults.nan.clear()
    # The same wish with another threshold asks for nothing new.
    slot.want(replace(INT8, score_threshold=0.5))
    wait_for(lambda: settled(slot) or slot.run(FRAME), timeout_s=DEADLINE_S)
    assert {slot.run(FRAME).precision for _ in range(20)} == {"FP32"}

    slot.want(FP32)
    slot.want(INT8)

    run_until(slot, "INT8")


def test_what_gave_way_is_tried_again_when_its_file_changes(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    slot.run(FRAME)
    slot.want(INT8)
    run_until(slot, "INT8")
    loader.faults.nan.add("INT8")
    run_until(slot, "FP32")
    loader.faults.nan.clear()
    loader.stamp = 1

    run_until(slot, "INT8")


def test_what_fails_from_the_start_gives_way_to_the_next_best(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(INT8)
    assert slot.run(FRAME).precision == "INT8"
    loader.faults.raises["INT8"] = RuntimeError("gone")

    assert {slot.run(FRAME).precision for _ in range(20)} == {"FP32"}
    assert [variant.precision for variant in loader.loads] == ["INT8", "FP32"]


def test_where_nothing_else_runs_either_the_fault_is_raised(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    slot.run(FRAME)
    slot.want(INT8)
    run_until(slot, "INT8")
    loader.faults.raises |= {"INT8": RuntimeError("first"), "FP32": RuntimeError("second")}

    with pytest.raises(RuntimeError, match="first"):
        slot.run(FRAME)


def test_where_nothing_else_runs_nan_goes_on_and_is_told(
    slot: DetectorSlot, loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    slot.start(FP32)
    loader.faults.nan.add("FP32")
    loader.faults.objects = True

    results = [slot.run(FRAME) for _ in range(5)]

    assert [(result.nan, len(result.detections)) for result in results] == [(True, 0)] * 5
    said(caplog, "m-FP32: it gives NaN; what runs stays")


def test_the_model_of_a_result_is_the_one_that_made_it(slot: DetectorSlot, loader: FakeLoader) -> None:
    """Also of the last frame before the way back."""
    loader.faults.ms["INT8"] = 50.0
    slot.start(replace(FP32, model="old"))
    for _ in range(5):
        slot.run(FRAME)
    slot.want(replace(INT8, model="new", latency_budget_ms=40.0))
    run_until(slot, "INT8")

    made_by = [(slot.run(FRAME).precision, slot.model) for _ in range(FEWEST + 5)]

    assert made_by[: FEWEST - 1] == [("INT8", "new")] * (FEWEST - 1)
    # The old model runs at once, and then the next best of the new one.
    assert set(made_by[FEWEST - 1 :]) <= {("FP32", "old"), ("FP32", "new")}
    wait_for(lambda: slot.run(FRAME) and slot.model == "new", timeout_s=DEADLINE_S)


def test_where_both_do_not_fit_the_one_before_goes_once_the_new_one_has_proven_itself(
    slot: DetectorSlot, loader: FakeLoader
) -> None:
    loader.used_mb = 300.0
    slot.start(replace(FP32, memory_limit_mb=200))
    slot.run(FRAME)
    slot.want(replace(INT8, memory_limit_mb=200))
    run_until(slot, "INT8")
    wait_for(lambda: settled(slot), timeout_s=DEADLINE_S)
    assert slot._last_good is not None
    for _ in range(FRAMES + 1):
        slot.run(FRAME)

    assert slot._last_good is None
