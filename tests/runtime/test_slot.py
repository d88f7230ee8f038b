"""The hot-swapped detector."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mecha.errors import MechaError, NotFoundError
from mecha.runtime.events import Swap
from mecha.runtime.loader import ModelLoader
from mecha.runtime.slot import DetectorSlot
from mecha.runtime.variants import Variant, Wanted, labels
from mecha.store.models import ModelStore
from tests.detect.blob_detector import blob_detector
from tests.detect.published_blobs import int8_blobs, publish_blobs
from tests.runtime.fake_detectors import FP32, FRAME, INT8, FakeDetector, FakeLoader
from tests.runtime.waiting import wait_for


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def swaps() -> list[Swap]:
    return []


@pytest.fixture
def slot(loader: FakeLoader, swaps: list[Swap], caplog: pytest.LogCaptureFixture) -> Iterator[DetectorSlot]:
    caplog.set_level(logging.INFO)
    slot = DetectorSlot(loader, log=logging.getLogger("slot"), on_swap=swaps.append, look_period_s=0.05)
    yield slot
    loader.may_load.set()
    slot.close()


def precision(slot: DetectorSlot) -> str:
    return slot.run(FRAME).precision


def runs(slot: DetectorSlot, wanted: str) -> bool:
    return precision(slot) == wanted


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


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


# Real detectors


@pytest.fixture(scope="module")
def int8_bytes() -> bytes:
    return int8_blobs()


Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, int8_bytes: bytes) -> Project:
    """A project with the blob detector, with INT8 or without."""

    def make(*, int8: bool = True, verdict: str = "faster") -> Path:
        (tmp_path / "model_catalog.toml").touch()
        publish_blobs(ModelStore(tmp_path / "models"), int8=int8_bytes if int8 else None, verdict=verdict)  # type: ignore[arg-type]
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("use_int8", "verdict", "expected"),
    [(True, "slower", "INT8"), (False, "faster", "FP32"), ("auto", "faster", "INT8"), ("auto", "slower", "FP32")],
)
def test_the_precision_that_is_wanted_is_chosen(
    project: Project, use_int8: bool | str, verdict: str, expected: str
) -> None:
    root = project(verdict=verdict)

    choice = ModelLoader(root).choose(Wanted("blobs", use_int8=use_int8))  # type: ignore[arg-type]

    assert choice.variants[0].precision == expected
    assert choice.variants[0].file == f"models/blobs/model{'-int8' if expected == 'INT8' else ''}.onnx"
    assert choice.notice == ""


@pytest.mark.parametrize("model", ["blobs", "models/blobs/model.onnx", "models/blobs"])
def test_int8_that_is_not_there_is_told_with_the_command_that_makes_it(project: Project, model: str) -> None:
    choice = ModelLoader(project(int8=False)).choose(Wanted(model, use_int8=True))

    assert [variant.precision for variant in choice.variants] == ["FP32"]
    assert choice.notice == "INT8 of blobs is not there; running FP32. `mecha models quantize blobs` makes INT8."


@pytest.mark.parametrize("model", ["yolov8n", "models/yolov8n/model.onnx"])
def test_a_model_that_was_not_pulled_is_told_with_the_command_that_pulls_it(tmp_path: Path, model: str) -> None:
    (tmp_path / "model_catalog.toml").touch()

    with pytest.raises(NotFoundError) as caught:
        ModelLoader(tmp_path).choose(Wanted(model))

    assert str(caught.value).startswith('model "yolov8n" is not pulled')
    assert "mecha models pull yolov8n" in caught.value.hint


def test_beside_a_file_that_nobody_published_lies_its_int8(tmp_path: Path, int8_bytes: bytes) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/blobs.onnx").write_bytes(blob_detector())
    (tmp_path / "mine/blobs-int8.onnx").write_bytes(int8_bytes)
    loader = ModelLoader(tmp_path)

    assert [variant.file for variant in loader.choose(Wanted("mine/blobs.onnx", use_int8=True)).variants] == [
        "mine/blobs-int8.onnx",
        "mine/blobs.onnx",
    ]
    assert [variant.precision for variant in loader.choose(Wanted("mine/blobs.onnx")).variants] == ["FP32"]


def test_a_file_that_is_written_again_is_another_choice(tmp_path: Path) -> None:
    file = tmp_path / "blobs.onnx"
    file.write_bytes(blob_detector())
    loader = ModelLoader(tmp_path)
    first = loader.choose(Wanted("blobs.onnx"))
    assert loader.choose(Wanted("blobs.onnx")) == first

    (tmp_path / "new").write_bytes(blob_detector(size=32))
    (tmp_path / "new").replace(file)

    assert loader.choose(Wanted("blobs.onnx")) != first
    assert loader.load(loader.choose(Wanted("blobs.onnx")).variants[0]).run(FRAME).precision == "FP32"


def real_slot(root: Path, swaps: list[Swap]) -> DetectorSlot:
    return DetectorSlot(ModelLoader(root), log=logging.getLogger("slot"), on_swap=swaps.append, look_period_s=0.1)


def test_a_broken_int8_file_leaves_fp32_running(
    project: Project, swaps: list[Swap], caplog: pytest.LogCaptureFixture
) -> None:
    root = project()
    (root / "models/blobs/model-int8.onnx").write_bytes(b"this is no model")
    slot = real_slot(root, swaps)
    slot.start(Wanted("blobs", use_int8=True))
    try:
        result = slot.run(FRAME)
    finally:
        slot.close()

    assert result.precision == "FP32"
    assert len(result.detections) == 1
    (warning,) = messages(caplog, logging.WARNING)
    assert warning.startswith("INT8 of blobs cannot be used: ")
    assert warning.endswith("; running FP32. `mecha models quantize blobs` makes INT8.")


def test_int8_that_is_built_while_fp32_runs_is_taken_up(project: Project, int8_bytes: bytes, swaps: list[Swap]) -> None:
    root = project(int8=False)
    slot = real_slot(root, swaps)
    slot.start(Wanted("blobs", use_int8=True))
    try:
        assert precision(slot) == "FP32"
        publish_blobs(ModelStore(root / "models"), int8=int8_bytes)
        wait_for(lambda: runs(slot, "INT8"))
    finally:
        slot.close()


def test_a_hundred_switches_lose_and_mix_nothing_and_cost_no_memory(project: Project, swaps: list[Swap]) -> None:
    root = project()
    loader = ModelLoader(root)
    slot = real_slot(root, swaps)
    slot.start(Wanted("blobs", use_int8=False))
    digests: dict[str, set[str]] = {"FP32": set(), "INT8": set()}
    frames: Counter[str] = Counter()
    after_two = 0.0
    try:
        for switch in range(1, 101):
            wanted, expected = (True, "INT8") if switch % 2 else (False, "FP32")
            slot.want(Wanted("blobs", use_int8=wanted))
            seen: list[str] = []
            while not seen or seen[-1] != expected:
                result = slot.run(FRAME)
                assert len(result.detections) == 1
                digests[result.precision].add(result.digest)
                seen.append(result.precision)
            # Once the new one runs, the old one never comes back by itself.
            assert seen == sorted(seen, key=lambda one: one == expected)
            frames.update(seen)
            if switch == 2:
                after_two = loader.memory_mb()
        after_all = loader.memory_mb()
    finally:
        slot.close()

    assert [len(each) for each in digests.values()] == [1, 1]
    assert digests["FP32"] != digests["INT8"]
    assert [(swap.was, swap.now) for swap in swaps] == [("FP32", "INT8"), ("INT8", "FP32")] * 50
    assert after_all - after_two < 20
    assert frames["INT8"] >= 50


def test_an_error_of_the_loader_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(MechaError):
        ModelLoader(tmp_path).choose(Wanted("nothing/at/all.onnx"))
