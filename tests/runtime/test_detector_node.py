"""The object detector, as it ships, in a project of its own."""

import logging
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mecha.runtime.hysteresis import Patience
from mecha.store.models import ModelStore
from tests.detect.blob_detector import GREEN, RED, blob_detector, blob_spec, scene
from tests.detect.published_blobs import publish_blobs
from tests.runtime.projects import configure
from tests.runtime.shipped_nodes import Running, listening, running_node, shipped_project
from tests.runtime.waiting import wait_for

if TYPE_CHECKING:
    from mecha.runtime.messages import DetectionsMessage


@pytest.fixture
def root(tmp_path: Path, int8_bytes: bytes) -> Path:
    return shipped_project(tmp_path / "project", int8_bytes)


@pytest.fixture
def running(root: Path, caplog: pytest.LogCaptureFixture) -> Running:
    caplog.set_level(logging.INFO)
    return partial(running_node, root)


def test_a_detector_says_what_it_saw_where_and_with_what(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        result = bench.result_of(7, scene((8, 8, 8, RED), (40, 40, 8, GREEN)))

    assert (result.frame, result.captured_at, result.source) == (7, 1007, "test")
    assert (result.width, result.height) == (64, 64)
    assert (result.model, result.precision) == ("blobs", "FP32")
    assert len(result.model_digest) == 64
    assert sorted(one["label"] for one in result.detections) == ["green", "red"]
    assert set(result.ms) == {"pre", "session", "post"}


def test_of_a_hundred_toggles_no_frame_is_lost_and_no_result_is_mixed(running: Running) -> None:
    """Every frame gets one result, in order, and each says the file that made it."""
    with running("object-detector") as bench:
        listening(bench)
        seq = 2
        seen: list[DetectionsMessage] = []
        for toggle in range(100):
            use_int8 = toggle % 2 == 0
            bench.command(use_int8=use_int8)
            expected = "INT8" if use_int8 else "FP32"
            while not seen or seen[-1].precision != expected:
                seen.append(bench.result_of(seq))
                seq += 1

    assert [one.frame for one in bench.detections] == list(range(2, seq))
    assert {len(one.detections) for one in seen} == {1}
    tags = {(one.precision, one.model_digest) for one in seen}
    assert sorted(precision for precision, _ in tags) == ["FP32", "INT8"]
    switches = sum(before.precision != after.precision for before, after in pairwise(seen))
    assert switches == 99 + (seen[0].precision == "FP32")


def test_thresholds_follow_the_config(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.set(model="blobs", use_int8=False, score_threshold=1.0)

        seqs = iter(range(2, 100_000))
        wait_for(lambda: bench.result_of(next(seqs)).detections == [])


def test_a_command_holds_until_the_config_says_otherwise(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        seqs = iter(range(2, 100_000))

        def runs(precision: str) -> Callable[[], bool]:
            return lambda: bench.result_of(next(seqs)).precision == precision

        bench.command(use_int8=True)
        wait_for(runs("INT8"))
        # Another key changes nothing about it.
        bench.set(model="blobs", use_int8=False, score_threshold=0.5)
        wait_for(lambda: bench.loop._node.config.score_threshold == 0.5)
        assert runs("INT8")()
        bench.set(model="blobs", use_int8="auto")
        wait_for(lambda: bench.loop._node.said.use_int8 is None)
        bench.set(model="blobs", use_int8=False)
        wait_for(runs("FP32"))


def test_a_detector_can_be_switched_off_and_on(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.command(enabled=False)
        wait_for(lambda: bench.loop._node.said.enabled is False)
        bench.send(2)
        wait_for(lambda: not bench.loop._inbox._newest)
        bench.command(enabled=True)
        wait_for(lambda: bench.loop._node.said.enabled)
        bench.result_of(3)

    assert [one.frame for one in bench.detections] == [3]


def test_self_calibration_can_be_switched_off_and_on(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        calibration = bench.loop._node.calibration
        assert calibration._worker is not None
        bench.command(self_calibrate=False)
        wait_for(lambda: calibration._worker is None)
        # What the config says about other keys changes nothing about it.
        bench.set(model="blobs", use_int8=False, score_threshold=0.5)
        wait_for(lambda: bench.loop._node.config.score_threshold == 0.5)
        assert calibration._worker is None
        bench.command(self_calibrate=True)
        wait_for(lambda: calibration._worker is not None)


def test_a_hot_detector_leaves_out_frames_once_it_is_told_to_and_takes_all_of_them_again(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("90000")
    with running("object-detector") as bench:
        listening(bench)
        node = bench.loop._node
        node.degrading._sys_root, node.degrading._patience = tmp_path / "sys", Patience(trouble_s=0, settle_s=0)
        seqs = iter(range(2, 100_000))

        def frame() -> int:
            seq = next(seqs)
            bench.send(seq)
            wait_for(lambda: not bench.loop._inbox._newest, timeout_s=60)
            return seq

        def skips() -> bool:
            frame()
            return bool(node.degrading.relief.skip)

        frame()
        assert node.vitals.degraded == ""
        bench.command(degrade=True)
        wait_for(skips, timeout_s=60)
        left_out = [frame() for _ in range(10)]
        bench.command(degrade=False)
        wait_for(lambda: not node.said.degrade, timeout_s=60)
        last = frame()
        bench.result_of(last + 100)

    seen = [one.frame for one in bench.detections]
    assert [seq in seen for seq in left_out] in ([True, False] * 5, [False, True] * 5)
    assert last in seen
    assert [record.getMessage() for record in caplog.records if "Degrading" in record.getMessage()] == [
        "Degrading: as configured -> skip 1 (thermal_zone0 is at 90 °C)",
        "Degrading: skip 1 -> as configured (switched off)",
    ]
    assert node.vitals.degraded == ""


def test_a_model_of_many_sizes_runs_at_a_smaller_one_while_the_device_is_hot(
    running: Running, root: Path, tmp_path: Path
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("90000")
    publish_blobs(ModelStore(root / "models"), spec=blob_spec(dynamic=True), model=blob_detector(dynamic=True))
    configure(root, "object-detector", model="blobs", use_int8=False, ladder=["fastest", "input 32"])
    with running("object-detector") as bench:
        listening(bench)
        node = bench.loop._node
        node.degrading._sys_root, node.degrading._patience = tmp_path / "sys", Patience(trouble_s=0, settle_s=0)
        bench.command(degrade=True)
        seqs = iter(range(2, 100_000))

        def size() -> int | None:
            bench.result_of(next(seqs), scene())
            chosen: int | None = node.slot._started().variant.input_size
            return chosen

        wait_for(lambda: size() == 32, timeout_s=60)
        assert node.vitals.degraded == "input 32"
        bench.command(degrade=False)
        wait_for(lambda: size() is None, timeout_s=60)

    assert [one.frame for one in bench.detections] == list(range(2, next(seqs)))


def test_int8_that_gives_nan_leaves_the_detector_as_it_is(
    running: Running, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_blobs(ModelStore(root / "models"), int8=blob_detector(class_bias=float("nan")))
    with running("object-detector") as bench:
        listening(bench)
        bench.command(use_int8=True)
        seqs = iter(range(2, 100_000))

        def warned() -> list[str]:
            bench.result_of(next(seqs))
            return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

        warnings = wait_for(warned, timeout_s=60)
        for _ in range(5):
            bench.result_of(next(seqs))

    assert warnings == [
        "INT8 of blobs cannot be used: models/blobs/model-int8.onnx: it gives NaN; running FP32. "
        "`mecha models quantize blobs` makes INT8."
    ]
    assert [one.frame for one in bench.detections] == list(range(2, next(seqs)))
    assert {(one.precision, len(one.detections)) for one in bench.detections} == {("FP32", 1)}


def test_a_faulty_config_leaves_the_detector_as_it_is(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.set(model="blobs", use_int9=True)
        wait_for(lambda: any(record.levelname == "ERROR" for record in caplog.records))
        result = bench.result_of(2)

    assert result.precision == "FP32"
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [
        'configs/common/nodes/object-detector/config.json:3: use_int9: unknown key; did you mean "use_int8"?',
        "The node keeps the config it runs with; correct the file and save it.",
    ]


def test_a_model_that_is_not_there_leaves_the_detector_as_it_is(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.set(model_path="models/yolov8n/model.onnx")
        wait_for(lambda: any(record.levelname == "ERROR" for record in caplog.records))
        result = bench.result_of(2)

    assert result.model == "blobs"
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith('model "yolov8n" is not pulled')
    assert "; what runs stays\n" in error
    assert "mecha models pull yolov8n" in error
