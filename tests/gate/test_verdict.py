from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.arena.scene import calibration_scene
from mecha.detect.images import read_image
from mecha.detect.locate import inspected_spec
from mecha.errors import IntegrityError, UnsupportedModelError
from mecha.gate.ceiling import score_ceiling
from mecha.gate.latency import Effort
from mecha.gate.verdict import run_gate
from mecha.graph.inspect import inspect_model
from mecha.store.manifest import GateRecord
from tests.detect.blob_detector import GREEN, RED, blob_detector, blob_spec, scene
from tests.detect.published_blobs import BlobFrames, int8_blobs

QUICK = Effort(least=3, most=3)
# Nothing on these: every score of FP32 is near 0.0025.
EMPTY = [scene(), scene()]


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(blob_detector())
    return file


def gate(fp32: Path, int8: bytes, *, frames: list[np.ndarray] | None = None) -> GateRecord:
    file = fp32.parent / "model-int8.onnx"
    file.write_bytes(int8)
    return run_gate(fp32, file, blob_spec(), frames or EMPTY, threads=1, max_accuracy_drop=0.01, effort=QUICK)


def with_class_bias(value: float) -> bytes:
    """The blob detector with another bias in its class convolutions."""
    model = onnx.load_from_string(blob_detector())
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [2] and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(2, value, np.float32), tensor.name))
    return bytes(model.SerializeToString())


def test_a_right_build_is_measured(fp32: Path) -> None:
    reports: list[tuple[str, int, int | None]] = []
    int8 = fp32.parent / "model-int8.onnx"
    int8.write_bytes(int8_blobs())
    record = run_gate(
        fp32,
        int8,
        blob_spec(),
        BlobFrames(),
        threads=1,
        max_accuracy_drop=0.01,
        progress=lambda *report: reports.append(report),
        effort=QUICK,
    )
    assert record.verdict in {"faster", "slower"}
    assert record.agreement is not None
    assert record.agreement.frames == 4
    assert record.agreement.agreement > 0.9
    assert record.latency is not None
    assert (record.latency.threads, record.latency.runs) == (1, 3)
    assert record.speedup == pytest.approx(record.latency.fp32_ms / record.latency.int8_ms, abs=0.001)
    assert record.reason.startswith("INT8 takes ")
    assert record.float_convs == ()
    assert reports == [("gate", number, 4) for number in (1, 2, 3, 4)]


def test_the_verdict_follows_the_speedup(fp32: Path) -> None:
    record = gate(fp32, blob_detector())
    assert record.speedup is not None
    assert record.verdict == ("faster" if record.speedup >= 1.05 else "slower")
    assert record.reason.endswith("it is not worth having") == (record.verdict == "slower")


def test_a_file_that_detects_nothing_is_wrong_even_on_empty_frames(fp32: Path) -> None:
    record = gate(fp32, blob_detector(tail="dead"))
    assert record.verdict == "wrong"
    assert record.reason == "no score can pass 0.00, whatever is on the frame; expected 0.8 or more"
    assert record.agreement is not None
    assert record.latency is None
    assert record.speedup is None


def test_a_file_whose_scores_cannot_pass_a_half_is_wrong_even_on_empty_frames(fp32: Path) -> None:
    # On these frames it gives exactly what FP32 gives.
    record = gate(fp32, blob_detector(highest_logit=0.0))
    assert record.verdict == "wrong"
    assert record.reason == "no score can pass 0.50, whatever is on the frame; expected 0.8 or more"
    assert record.agreement is not None
    assert record.agreement.agreement == 1.0


def test_a_file_whose_detections_differ_is_wrong(fp32: Path) -> None:
    record = gate(fp32, with_class_bias(-20.0), frames=[*BlobFrames()] * 3)
    assert record.verdict == "wrong"
    assert record.reason == (
        "at score 0.25 INT8 finds what FP32 finds with F1 0.00, over 18 detections; expected 0.86 or more"
    )


def test_a_file_that_gives_other_programs_other_boxes_is_wrong(fp32: Path) -> None:
    # Cut before its tail, where mecha cuts it, this file is as good as FP32.
    record = gate(fp32, blob_detector(tail="moved"))
    assert record.verdict == "wrong"
    assert record.reason.startswith(
        "run whole, as other programs run it, the file gives something else than cut before its decode tail: "
        "they overlap by 0."
    )


def test_bytes_that_are_no_model_are_unloadable(fp32: Path) -> None:
    record = gate(fp32, b"not a model")
    assert record.verdict == "unloadable"
    assert "expected an ONNX model" in record.reason
    assert (record.agreement, record.latency, record.speedup) == (None, None, None)


def test_an_operator_that_onnxruntime_does_not_have_is_unloadable(fp32: Path) -> None:
    model = onnx.load_from_string(blob_detector())
    model.graph.node[0].op_type = "NoSuchOperator"
    record = gate(fp32, model.SerializeToString())
    assert record.verdict == "unloadable"
    assert "NoSuchOperator" in record.reason


def test_other_outputs_than_those_of_fp32_are_unloadable(fp32: Path) -> None:
    model = onnx.load_from_string(blob_detector())
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == model.graph.output[0].name:
                node.output[index] = "other"
    model.graph.output[0].name = "other"
    record = gate(fp32, model.SerializeToString())
    assert record.verdict == "unloadable"
    assert record.reason.startswith("outputs: got other [1, 6, 80] float32; expected those of FP32: ")


def test_a_missing_file_is_unloadable(fp32: Path) -> None:
    record = run_gate(fp32, fp32.parent / "none.onnx", blob_spec(), EMPTY, threads=1, max_accuracy_drop=0.01)
    assert record.verdict == "unloadable"
    assert record.reason == f"{fp32.parent / 'none.onnx'}: no such file; expected an ONNX model"


def test_scores_that_are_no_numbers_are_unloadable(fp32: Path) -> None:
    record = gate(fp32, with_class_bias(float("nan")))
    assert record.verdict == "unloadable"
    assert record.reason == "frame 1 of 2: the outputs hold NaN or infinity; expected numbers"


def test_a_broken_fp32_file_is_an_error(fp32: Path) -> None:
    broken = fp32.parent / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(IntegrityError):
        run_gate(broken, fp32, blob_spec(), EMPTY, threads=1, max_accuracy_drop=0.01)


def test_a_family_that_cannot_be_decoded_is_an_error(fp32: Path) -> None:
    spec = blob_spec().model_copy(update={"family": "detr"})
    with pytest.raises(UnsupportedModelError):
        run_gate(fp32, fp32, spec, EMPTY, threads=1, max_accuracy_drop=0.01)


@pytest.mark.parametrize(("highest_logit", "ceiling"), [(None, 1.0), (3.0, 0.953), (0.0, 0.5), (-2.0, 0.119)])
def test_the_ceiling_is_the_highest_score_a_file_can_give(
    tmp_path: Path, highest_logit: float | None, ceiling: float
) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(blob_detector(highest_logit=highest_logit))
    assert score_ceiling(file, blob_spec(), scene(), threads=1) == pytest.approx(ceiling, abs=0.001)


def test_the_ceiling_of_a_dynamic_model_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(blob_detector(dynamic=True))
    assert score_ceiling(file, blob_spec(dynamic=True), scene(), threads=1) == pytest.approx(1.0, abs=0.001)


def test_no_ceiling_is_claimed_where_class_logits_cannot_be_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(blob_detector())
    spec = blob_spec().model_copy(update={"classes": ("a", "b", "c")})
    assert score_ceiling(file, spec, scene(), threads=1) is None


@pytest.mark.shared_data
@pytest.mark.parametrize("kind", ["scenes", "photos"])
def test_a_published_file_that_detects_nothing_is_wrong(shared_data: Path, kind: str) -> None:
    fp32 = shared_data / "models" / "yolov8n.onnx"
    frames = (
        [calibration_scene(1, index, 640, 640) for index in range(2)]
        if kind == "scenes"
        else [read_image(shared_data / "images" / name) for name in ("bus.jpg", "zidane.jpg")]
    )
    spec = inspected_spec(fp32, inspect_model(fp32))
    int8 = shared_data / "models" / "yolov8n_int8_broken.onnx"
    record = run_gate(fp32, int8, spec, frames, threads=1, max_accuracy_drop=0.01)
    assert record.verdict == "wrong"
    assert record.agreement is not None
    assert record.agreement.agreement == 0.0


WIDE = [scene((8, 8, 16, RED), (80, 16, 16, GREEN), size=(64, 128)), scene((16, 16, 8, RED), size=(128, 64))]


@pytest.mark.parametrize("static", [False, True])
def test_frames_at_their_rectangle_are_compared_at_one_size(tmp_path: Path, static: bool) -> None:
    # An INT8 file of one size, made elsewhere, has fewer anchors to compare with than the frame's rectangle.
    fp32, int8 = tmp_path / "model.onnx", tmp_path / "model-int8.onnx"
    fp32.write_bytes(blob_detector(128, dynamic=True))
    int8.write_bytes(blob_detector(128, dynamic=not static))
    spec = blob_spec(128, dynamic=True)
    record = run_gate(fp32, int8, spec, WIDE, threads=1, max_accuracy_drop=0.01, effort=QUICK)
    assert record.verdict in {"faster", "slower"}, record.reason
    assert record.agreement is not None
    assert record.agreement.agreement == pytest.approx(1)


def test_a_file_that_other_programs_run_otherwise_is_wrong_at_rectangles_too(tmp_path: Path) -> None:
    fp32, int8 = tmp_path / "model.onnx", tmp_path / "model-int8.onnx"
    fp32.write_bytes(blob_detector(128, dynamic=True))
    int8.write_bytes(blob_detector(128, dynamic=True, tail="moved"))
    spec = blob_spec(128, dynamic=True)
    record = run_gate(fp32, int8, spec, WIDE, threads=1, max_accuracy_drop=0.01, effort=QUICK)
    assert record.verdict == "wrong"
    assert record.reason.startswith("run whole, as other programs run it, the file gives something else")
