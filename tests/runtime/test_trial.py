"""What is tried out before it takes a frame, and takes none where it does not work."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mecha.errors import UnsupportedModelError
from mecha.runtime.events import Swap
from mecha.runtime.loader import ModelLoader
from mecha.runtime.probation import FRAMES
from mecha.runtime.sights import Sights
from mecha.runtime.slot import DetectorSlot
from mecha.runtime.variants import Wanted
from mecha.store.models import ModelStore
from tests.detect.blob_detector import RED, blob_detector, scene
from tests.detect.published_blobs import publish_blobs
from tests.runtime.fake_detectors import FP32, FRAME, INT8, FakeDetector, FakeLoader
from tests.runtime.slots import DEADLINE_S, run_until, said, settled, told
from tests.runtime.waiting import wait_for


def test_what_gives_nan_or_throws_when_it_is_tried_out_takes_no_frame(
    slot: DetectorSlot, loader: FakeLoader, swaps: list[Swap], caplog: pytest.LogCaptureFixture
) -> None:
    slot.start(FP32)
    loader.faults.raises["INT8"] = ValueError("shapes")
    slot.want(INT8)
    wait_for(lambda: told(caplog), timeout_s=DEADLINE_S)
    wait_for(lambda: settled(slot), timeout_s=DEADLINE_S)

    assert slot.run(FRAME).precision == "FP32"
    assert told(caplog) == [
        "INT8 of m cannot be used: m-INT8: ValueError: shapes; running FP32. `mecha models quantize m` makes INT8."
    ]
    assert swaps == []


def with_objects(slot: DetectorSlot, loader: FakeLoader, *, frames: int = 2, period_s: float = 0.0) -> None:
    """Run until the slot has kept frames with objects on them."""
    loader.faults.objects = True
    slot._sights = Sights(period_s=period_s)
    for _ in range(frames):
        slot.run(FRAME)


def test_what_finds_nothing_where_objects_were_found_takes_no_frame(
    slot: DetectorSlot, loader: FakeLoader, caplog: pytest.LogCaptureFixture
) -> None:
    slot.start(FP32)
    with_objects(slot, loader)
    loader.faults.blind.add("INT8")
    slot.want(INT8)

    said(
        caplog,
        "INT8 of m cannot be used: m-INT8: it finds nothing in 2 frames in which objects were found; running FP32. "
        "`mecha models quantize m` makes INT8.",
    )
    assert {slot.run(FRAME).precision for _ in range(20)} == {"FP32"}


def test_what_ran_blind_before_is_tried_out_once_there_are_objects(slot: DetectorSlot, loader: FakeLoader) -> None:
    loader.faults.blind.add("INT8")
    slot.start(INT8)
    slot.run(FRAME)
    slot.want(FP32)
    run_until(slot, "FP32")
    with_objects(slot, loader, frames=FRAMES + 2)
    slot.want(INT8)
    wait_for(lambda: settled(slot), timeout_s=DEADLINE_S)

    assert {slot.run(FRAME).precision for _ in range(20)} == {"FP32"}


def test_one_hard_frame_proves_nothing(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    with_objects(slot, loader, period_s=1e9)
    loader.faults.blind.add("INT8")
    slot.want(INT8)

    run_until(slot, "INT8")


def test_a_model_with_other_classes_may_find_nothing(slot: DetectorSlot, loader: FakeLoader) -> None:
    slot.start(FP32)
    with_objects(slot, loader)
    loader.faults.blind.add("INT8")
    loader.faults.names["INT8"] = ("face",)
    slot.want(INT8)

    run_until(slot, "INT8")


def test_what_cannot_be_used_is_an_error_of_ours(slot: DetectorSlot, loader: FakeLoader) -> None:
    loader.faults.nan.add("FP32")
    with pytest.raises(UnsupportedModelError) as caught:
        slot.start(FP32)
    assert str(caught.value) == "m-FP32: it gives NaN"


def test_nothing_is_tried_out_in_two_threads(slot: DetectorSlot, loader: FakeLoader) -> None:
    """Failures, wishes and trials as fast as they come: a detector notices two threads in it."""
    slot.start(FP32)
    with_objects(slot, loader)
    for index in range(300):
        slot.want(replace((INT8, FP32)[index % 2], score_threshold=0.2 + index % 5 / 10))
        (loader.faults.nan.add if index % 7 == 0 else loader.faults.nan.discard)("INT8")
        assert not slot.run(FRAME).nan
        slot._sights = Sights(period_s=0.0)


def test_a_detector_with_one_thread_of_its_own_is_not_shared(loader: FakeLoader) -> None:
    """The fake notices what it is there to notice."""
    detector = FakeDetector(loader.variant(FP32, "FP32"))
    other = detector.with_thresholds(score_threshold=0.5, iou_threshold=0.5, max_detections=1)
    with detector.busy, pytest.raises(AssertionError, match="two threads"):
        other.run(FRAME)


# Real models


Broken = Callable[[float], DetectorSlot]


@pytest.fixture
def broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Broken]:
    """A slot that runs FP32 of a model whose INT8 has a bias of its own."""
    caplog.set_level(logging.INFO)
    slots: list[DetectorSlot] = []

    def make(bias: float) -> DetectorSlot:
        (tmp_path / "model_catalog.toml").touch()
        publish_blobs(ModelStore(tmp_path / "models"), int8=blob_detector(class_bias=bias))
        slot = DetectorSlot(ModelLoader(tmp_path), log=logging.getLogger("slot"), on_swap=lambda swap: None)
        slot._sights = Sights(period_s=0.0)
        slot.start(Wanted("blobs", use_int8=False))
        slots.append(slot)
        return slot

    yield make
    for slot in slots:
        slot.close()


@pytest.mark.parametrize(
    ("bias", "fault"),
    [(float("nan"), "it gives NaN"), (-60.0, "it finds nothing in 3 frames in which objects were found")],
    ids=["NaN", "blind"],
)
def test_a_broken_model_takes_no_frame(
    broken: Broken, caplog: pytest.LogCaptureFixture, bias: float, fault: str
) -> None:
    slot = broken(bias)
    frame = scene((8, 8, 8, RED))
    for _ in range(3):
        slot.run(frame)
    slot.want(Wanted("blobs", use_int8=True))
    said(
        caplog,
        f"INT8 of blobs cannot be used: models/blobs/model-int8.onnx: {fault}; running FP32. "
        "`mecha models quantize blobs` makes INT8.",
    )

    result = slot.run(frame)

    assert (result.precision, len(result.detections)) == ("FP32", 1)
