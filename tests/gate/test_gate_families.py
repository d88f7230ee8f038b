"""The gate on small graphs of every family's signature, static and as dynamic exports have it."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from mecha.detect.detector import Detector
from mecha.detect.locate import inspected_spec
from mecha.gate.latency import Effort
from mecha.gate.verdict import run_gate
from mecha.graph.inspect import inspect_model
from mecha.quantize.static import build_static
from mecha.store.manifest import GateRecord
from mecha.store.spec import ModelSpec
from tests.detect.tails import yolov5_detector
from tests.graph import networks
from tests.quantize.frames_of_noise import PatchFrames

QUICK = Effort(least=3, most=3)
SIZE = {"imgsz": "[64, 64]", "names": "['cone', 'ball', 'tag']", "stride": "16", "task": "detect"}


def dynamic_end_to_end() -> onnx.ModelProto:
    """What exporters make of YOLOv10 with dynamic axes: the last one is named, although it holds six values."""
    return described(networks.as_dynamic(networks.end_to_end_network(), ("batch", 10, "anchors")))


def dynamic_transformer() -> onnx.ModelProto:
    """What exporters make of D-FINE."""
    model = networks.as_dynamic(networks.two_output_network(), ("batch_size", "num_queries", 3), ("batch_size", "q", 4))
    return described(model)


def described(model: onnx.ModelProto) -> onnx.ModelProto:
    onnx.helper.set_model_props(model, SIZE)
    return model


MAKERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "yolov8": networks.yolov8_network,
    "yolov5": yolov5_detector,
    "yolox": networks.yolox_network,
    "end_to_end": dynamic_end_to_end,
    "detr": dynamic_transformer,
    "nanodet": networks.nanodet_network,
}


def written(folder: Path, make: Callable[[], onnx.ModelProto]) -> tuple[Path, ModelSpec]:
    file = folder / "model.onnx"
    onnx.save(make(), file)
    # The random weights are made for values between 0 and 1; with larger ones all boxes lie beside the frame.
    return file, inspected_spec(file, inspect_model(file)).model_copy(update={"preprocessing": "yolo"})


def gate(fp32: Path, int8: Path, spec: ModelSpec) -> GateRecord:
    return run_gate(fp32, int8, spec, PatchFrames(), threads=1, max_accuracy_drop=0.01, effort=QUICK)


@pytest.mark.parametrize("family", MAKERS)
def test_a_static_build_of_every_family_gets_a_verdict(tmp_path: Path, family: str) -> None:
    fp32, spec = written(tmp_path, MAKERS[family])
    assert (spec.family, spec.input.height, spec.input.width) == (family, 64, 64)
    int8 = tmp_path / "model-int8.onnx"
    build_static(fp32, int8, PatchFrames(), spec, threads=1)
    record = gate(fp32, int8, spec)
    assert record.verdict in {"faster", "slower", "wrong"}
    assert record.agreement is not None
    detector = Detector.from_file(int8, spec, precision="INT8", threads=1, score_threshold=0.0)
    assert len(detector(next(iter(PatchFrames())))) > 0


@pytest.mark.parametrize("family", MAKERS)
def test_a_file_that_is_fp32_itself_agrees(tmp_path: Path, family: str) -> None:
    fp32, spec = written(tmp_path, MAKERS[family])
    record = gate(fp32, fp32, spec)
    assert record.verdict in {"faster", "slower"}
    assert record.agreement is not None
    # Random boxes beside the frame are clipped to nothing, and nothing overlaps nothing.
    assert record.agreement.agreement > 0.9
    assert record.agreement.box_iou == pytest.approx(1.0, abs=0.01)


def test_a_transformer_whose_scores_are_turned_round_is_wrong(tmp_path: Path) -> None:
    fp32, spec = written(tmp_path, dynamic_transformer)
    model = onnx.load(fp32)
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [32, 3]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
    int8 = tmp_path / "model-int8.onnx"
    onnx.save(model, int8)
    assert gate(fp32, int8, spec).verdict == "wrong"
