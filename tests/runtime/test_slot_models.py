"""The hot-swapped detector and its loader, with real models."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mecha.errors import MechaError, NotFoundError
from mecha.runtime.events import Swap
from mecha.runtime.loader import ModelLoader
from mecha.runtime.slot import DetectorSlot
from mecha.runtime.variants import Wanted
from mecha.store.models import ModelStore
from tests.detect.blob_detector import blob_detector
from tests.detect.published_blobs import publish_blobs
from tests.runtime.fake_detectors import FRAME
from tests.runtime.slots import messages, precision, runs
from tests.runtime.waiting import wait_for

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
