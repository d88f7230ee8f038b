"""The hot-swapped detector."""

import logging
import threading
import time
from dataclasses import replace

import pytest

from mecha.errors import NotFoundError
from mecha.runtime.events import Swap
from mecha.runtime.slot import DetectorSlot
from mecha.runtime.variants import Variant, labels
from tests.runtime.fake_detectors import FP32, FRAME, INT8, FakeDetector, FakeLoader
from tests.runtime.slots import messages, precision, runs
from tests.runtime.waiting import wait_for


def test_it_runs_what_is_wanted_from_the_start(slot: DetectorSlot, caplog: pytest.LogCaptureFixture) -> None:
    slot.start(INT8)

    assert precision(slot) == "INT8"
    assert slot.model == "m"
    assert messages(caplog) == ["Loading model m-INT8 (INT8)"]


def test_frames_go_on_with_the_old_one_while_the_new_one_loads(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    loader.may_load.clear()
    slot.want(INT8)
    wait_for(lambda: len(loader.loads) == 2)

    assert [precision(slot) for _ in range(20)] == ["FP32"] * 20

    loader.may_load.set()
    wait_for(lambda: runs(slot, "INT8"))


def test_switching_back_loads_nothing(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    for _ in range(50):
        for wanted, expected in ((INT8, "INT8"), (FP32, "FP32")):
            slot.want(wanted)
            wait_for(lambda expected=expected: runs(slot, expected))  # type: ignore[misc]

    assert [variant.precision for variant in loader.loads] == ["FP32", "INT8"]


def test_of_several_wishes_the_last_one_counts(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    loader.may_load.clear()
    slot.want(INT8)
    wait_for(lambda: len(loader.loads) == 2)
    for size in range(32, 320, 32):
        slot.want(replace(INT8, input_size=size))
    slot.want(replace(FP32, input_size=320))
    loader.may_load.set()

    wait_for(lambda: "FP32" in {variant.precision for variant in loader.loads[2:]})
    seen = {precision(slot) for _ in range(50)}

    assert seen == {"FP32"}
    assert [(variant.precision, variant.input_size) for variant in loader.loads] == [
        ("FP32", None),
        ("INT8", None),
        ("FP32", 320),
    ]


def test_other_thresholds_load_nothing_and_are_no_swap(
    slot: DetectorSlot, loader: FakeLoader, swaps: list[Swap]
) -> None:
    slot.start(FP32)
    slot.run(FRAME)
    slot.want(replace(FP32, score_threshold=0.9))

    def new_threshold() -> bool:
        slot.run(FRAME)
        detector = slot._started().detector
        return isinstance(detector, FakeDetector) and detector.score_threshold == 0.9

    wait_for(new_threshold)
    for _ in range(10):
        slot.run(FRAME)
    assert len(loader.loads) == 1
    assert swaps == []


def test_a_swap_is_told_with_the_medians_before_and_after(slot: DetectorSlot, swaps: list[Swap]) -> None:
    slot.start(FP32)
    for _ in range(10):
        slot.run(FRAME)
    slot.want(INT8)
    wait_for(lambda: runs(slot, "INT8"))
    for _ in range(3):
        slot.run(FRAME)
    assert swaps == []
    slot.run(FRAME)

    assert swaps == [Swap("FP32", "INT8", 30.0, 10.0)]


def test_a_swap_that_is_followed_by_another_is_told_with_the_frames_it_had(
    slot: DetectorSlot, swaps: list[Swap]
) -> None:
    slot.start(FP32)
    slot.want(INT8)
    wait_for(lambda: runs(slot, "INT8"))
    slot.want(FP32)
    wait_for(lambda: runs(slot, "FP32"))
    slot.close()

    assert [(swap.was, swap.now, swap.after_ms) for swap in swaps] == [("FP32", "INT8", 10.0), ("INT8", "FP32", 30.0)]


def test_without_int8_the_other_one_runs_and_int8_as_soon_as_it_is_built(
    slot: DetectorSlot, loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    loader.int8_built = False
    slot.start(INT8)
    assert precision(slot) == "FP32"
    assert messages(caplog, logging.WARNING) == ["INT8 of m is not there; running FP32."]

    loader.int8_built = True

    wait_for(lambda: runs(slot, "INT8"))


def test_int8_that_cannot_be_loaded_leaves_fp32_running_and_says_how_to_get_it(
    slot: DetectorSlot, loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    loader.unloadable = {"INT8"}
    slot.start(INT8)

    assert precision(slot) == "FP32"
    assert messages(caplog, logging.WARNING) == [
        "INT8 of m cannot be used: m-INT8: got no ONNX model; running FP32. `mecha models quantize m` makes INT8."
    ]


def test_a_model_that_is_pulled_again_is_loaded_again(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    loader.stamp = 1

    wait_for(lambda: len(loader.loads) == 2)
    assert loader.loads[1].stamp == (1,)


def test_a_model_that_is_not_there_leaves_the_running_one_and_is_told_once(
    slot: DetectorSlot, loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    slot.start(FP32)
    loader.missing = {"other"}
    for threshold in (0.1, 0.2, 0.3):
        slot.want(replace(FP32, model="other", score_threshold=threshold))
        wait_for(lambda: slot._served == slot._wishes)
    wait_for(lambda: messages(caplog, logging.ERROR))

    assert precision(slot) == "FP32"
    assert messages(caplog, logging.ERROR) == [
        'model "other" is not pulled; what runs stays\n`mecha models pull other`'
    ]


def test_a_slot_does_not_start_without_its_model(slot: DetectorSlot, loader: FakeLoader) -> None:
    loader.missing = {"m"}

    with pytest.raises(NotFoundError):
        slot.start(FP32)


def test_where_both_do_not_fit_only_one_stays_and_it_is_told_once(
    slot: DetectorSlot, loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    loader.used_mb = 300.0
    fp32, int8 = replace(FP32, memory_limit_mb=200), replace(INT8, memory_limit_mb=200)
    slot.start(fp32)
    for wanted, expected in ((int8, "INT8"), (fp32, "FP32"), (int8, "INT8")):
        slot.want(wanted)
        wait_for(lambda expected=expected: runs(slot, expected))  # type: ignore[misc]

    assert [variant.precision for variant in loader.loads] == ["FP32", "INT8", "FP32", "INT8"]
    assert messages(caplog, logging.WARNING) == [
        "300 MB are in use, more than memory_limit_mb = 200: only what runs stays loaded, and every switch loads again."
    ]


def test_a_third_one_pushes_out_the_one_that_was_used_longest_ago(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    for wanted, expected in ((INT8, "INT8"), (replace(INT8, model="n"), "INT8"), (INT8, "INT8"), (FP32, "FP32")):
        slot.want(wanted)
        wait_for(lambda wanted=wanted: runs(slot, expected) and slot.model == wanted.model)  # type: ignore[misc]  # noqa: B023
        wait_for(lambda: slot._served == slot._wishes)

    assert [(variant.model, variant.precision) for variant in loader.loads] == [
        ("m", "FP32"),
        ("m", "INT8"),
        ("n", "INT8"),
        ("m", "FP32"),
    ]


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        (Variant("m", "FP32", "", (), None, None), Variant("m", "INT8", "", (), None, None), ("FP32", "INT8")),
        (Variant("m", "INT8", "", (), None, None), Variant("n", "INT8", "", (), None, None), ("m INT8", "n INT8")),
        (
            Variant("m", "INT8", "", (), 640, None),
            Variant("m", "FP32", "", (), None, None),
            ("INT8 at 640", "FP32 at its own size"),
        ),
    ],
)
def test_a_swap_is_named_by_what_differs(was: Variant, now: Variant, expected: tuple[str, str]) -> None:
    assert labels(was, now) == expected


def test_no_frame_is_lost_or_mixed_while_wishes_come_as_fast_as_they_can(
    slot: DetectorSlot, loader: FakeLoader
) -> None:
    slot.start(FP32)
    done = threading.Event()

    def wish() -> None:
        for index in range(300):
            slot.want((INT8, FP32)[index % 2])
            time.sleep(0.0005)
        done.set()

    thread = threading.Thread(target=wish)
    thread.start()
    results = []
    while not done.is_set():
        results.append(slot.run(FRAME))
    thread.join()
    wait_for(lambda: runs(slot, "FP32"))

    assert all(result.digest == f"m-{result.precision}" for result in results)
    assert [variant.precision for variant in loader.loads] == ["FP32", "INT8"]
