"""INT8 files of YOLOv8n that other tools made: the right one is adopted, the one that detects nothing is not."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from mecha.detect.images import read_image
from mecha.detect.preprocess import Preprocessor
from mecha.graph.cut import find_tail
from mecha.graph.prepare import to_opset
from mecha.graph.reading import load_model
from tests.service.conftest import Bench

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(600)]

CATALOG = """
[[models]]
name = "yolov8n"
path = "yolov8n.onnx"

[models.quantize]
method = "static_int8"
"""
PHOTOS = 6


class Photos(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """What onnxruntime's own quantizer calibrates on."""

    def __init__(self, folder: Path) -> None:
        preprocess = Preprocessor("yolo", 640, 640)
        photos = sorted(folder.glob("*.jpg"))[:PHOTOS]
        self._tensors = (preprocess(read_image(photo))[0].copy() for photo in photos)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {"images": tensor}


@pytest.fixture
def bench(tmp_path: Path, shared_data: Path) -> Bench:
    """A project with YOLOv8n in FP32, whose entry wants INT8."""
    bench = Bench(tmp_path / "robot", tmp_path / "home", {"HF_ENDPOINT": "http://127.0.0.1:9"})
    bench.root.mkdir()
    bench.home.mkdir()
    shutil.copy(shared_data / "models" / "yolov8n.onnx", bench.root)
    bench.write_catalog(CATALOG)
    done = bench.command("models", "pull", "yolov8n", "--no-quantize")
    assert done.returncode == 0, done.stderr
    return bench


def published(bench: Bench) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (bench.root / "models" / "yolov8n").iterdir()}


def test_int8_of_onnxruntime_s_own_quantizer_with_a_float_tail_is_adopted(bench: Bench, shared_data: Path) -> None:
    fp32, newer, int8 = (bench.root / f"{name}.onnx" for name in ("yolov8n", "opset-13", "elsewhere"))
    # A scale for each channel needs this opset.
    onnx.save(to_opset(load_model(fp32), 13), newer)
    tail = find_tail(load_model(newer))
    quantize_static(
        newer, int8, Photos(shared_data / "coco/calib"), per_channel=True, weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8, nodes_to_exclude=[*tail.nodes, *tail.last_convs],
    )  # fmt: skip
    done = bench.command("models", "adopt", "yolov8n", "elsewhere.onnx", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, last
    assert last["method"] == "adopted"
    assert last["verdict"] in ("faster", "slower")
    files = published(bench)
    assert files["model-int8.onnx"] == int8.read_bytes()
    assert files["model.onnx"] == fp32.read_bytes()
    again = bench.command("models", "pull", "yolov8n")
    assert again.stdout == f"yolov8n: complete in {bench.root}/models/yolov8n, nothing to do\n"


def test_int8_that_detects_nothing_is_wrong_and_changes_nothing(bench: Bench, shared_data: Path) -> None:
    before = published(bench)
    broken = shared_data / "models" / "yolov8n_int8_broken.onnx"
    done = bench.command("models", "adopt", "yolov8n", str(broken))
    assert done.returncode == 8
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith(
        f"error: yolov8n: {broken} is wrong: at score 0.25 INT8 finds what FP32 finds with F1 0.00, "
    )
    assert hint == "  next: Nothing was changed; `mecha models quantize yolov8n` makes INT8 on this device."
    assert published(bench) == before
