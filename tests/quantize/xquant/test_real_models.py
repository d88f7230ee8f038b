"""The example of xquant's documentation, and a model that is no detector."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.detector import Detector
from mecha.detect.images import read_image
from mecha.detect.session import Session
from mecha.graph.inspect import inspect_model
from mecha.quantize.fusion import float_convs
from mecha.quantize.xquant.run import quantize_config
from mecha.store.spec import InputSpec, ModelSpec, SourceSpec

pytestmark = pytest.mark.shared_data

EXAMPLE = """{
  "model_parameters": {
    "onnx_model": "yolov8/model/yolov8n.onnx",
    "working_dir": "yolov8",
    "skip_onnxsim": false
  },
  "calibration_parameters": {
    "calibration_step": 8,
    "input_parametres": [
      {
        "mean_value": [0, 0, 0],
        "std_value": [255, 255, 255],
        "color_format": "rgb",
        "data_list_path": "yolov8/data/calib_list.txt"
      }
    ]
  },
  "quantization_parameters": {
    "truncate_var_names": [
      "/model.22/Reshape_output_0",
      "/model.22/Reshape_1_output_0",
      "/model.22/Reshape_2_output_0"
    ]
  }
}
"""


def lay_out(root: Path, shared_data: Path, name: str) -> Path:
    """Make the folders of the example; return that of the data."""
    data = root / "yolov8" / "data"
    (root / "yolov8" / "model").mkdir(parents=True)
    data.mkdir()
    (root / "yolov8" / "model" / f"{name}.onnx").symlink_to(shared_data / "models" / f"{name}.onnx")
    photos = sorted((shared_data / "coco" / "calib").glob("*.jpg"))
    (data / "calib_list.txt").write_text("".join(f"{photo}\n" for photo in photos))
    return data


def test_the_example_of_the_documentation_runs_as_it_is(tmp_path: Path, shared_data: Path) -> None:
    data = lay_out(tmp_path, shared_data, "yolov8n")
    config = data / "yolov8_xquant_config.json"
    config.write_text(EXAMPLE)
    done = quantize_config(config, root=tmp_path)
    fp32 = tmp_path / "yolov8" / "model" / "yolov8n.onnx"
    assert done.model == tmp_path / "yolov8" / "yolov8n.q.onnx"
    assert done.report == tmp_path / "yolov8" / "yolov8n.q_report.md"
    assert done.int8_bytes < 0.32 * done.fp32_bytes
    assert float_convs(done.model.read_bytes()) == ()
    ours, theirs = Session(done.model, threads=1), Session(fp32, threads=1)
    assert (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs)
    assert done.outputs[0].cosine > 0.999
    bus = read_image(shared_data / "images" / "bus.jpg")
    expected, got = found(fp32, bus, "FP32"), found(done.model, bus, "INT8")
    assert [label for label, _ in got] == [label for label, _ in expected]
    for (_, one), (_, other) in zip(expected, got, strict=True):
        assert abs(one - other) < 0.1


def found(path: Path, frame: NDArray[np.uint8], precision: Literal["FP32", "INT8"]) -> list[tuple[str, float]]:
    """Return label and score of what a file of YOLOv8 finds, by label and from left to right."""
    signature = inspect_model(path)
    spec = ModelSpec(
        schema=1,
        name="yolov8n",
        task="object-detection",
        family="yolov8",
        input=InputSpec(name="images", height=640, width=640, stride=32),
        preprocessing="yolo",
        classes=signature.names or (),
        source=SourceSpec(repo="a/b", filename="model.onnx", revision="0" * 40),
    )
    detections = Detector.from_file(path, spec, precision=precision, threads=1, score_threshold=0.35)(frame)
    return [(one.label, one.score) for one in sorted(detections, key=lambda one: (one.label, one.box_xyxy))]


def test_a_model_that_is_no_detector_is_quantized_too(tmp_path: Path, shared_data: Path) -> None:
    data = lay_out(tmp_path, shared_data, "deepsort_feature")
    config = data / "config.json"
    entry = {
        "input_name": "input",
        "input_shape": [1, 3, 64, 128],
        "mean_value": [123.675, 116.28, 103.53],
        "std_value": [58.395, 57.12, 57.375],
        "color_format": "rgb",
        "data_list_path": "yolov8/data/calib_list.txt",
    }
    text = {
        "model_parameters": {"onnx_model": "yolov8/model/deepsort_feature.onnx", "working_dir": "out"},
        "calibration_parameters": {"calibration_step": 16, "input_parameters": [entry]},
    }
    config.write_text(json.dumps(text))
    done = quantize_config(config, root=tmp_path)
    assert done.samples == 16
    assert done.outputs[0].cosine > 0.99
    assert float_convs(done.model.read_bytes()) == ()
    fp32 = Session(tmp_path / "yolov8" / "model" / "deepsort_feature.onnx", threads=1)
    assert Session(done.model, threads=1).inputs == fp32.inputs
