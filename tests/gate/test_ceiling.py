"""The ceiling where scores are a product with objectness: both factors must be raised, or the frame decides."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.detect.locate import inspected_spec
from mecha.gate.ceiling import score_ceiling
from mecha.graph.inspect import inspect_model
from tests.detect.tails import yolov5_detector
from tests.graph import networks


@pytest.mark.parametrize("make", [yolov5_detector, networks.yolox_network, networks.yolov8_network])
def test_a_float_file_can_give_any_score_on_a_frame_without_objects(
    tmp_path: Path, make: Callable[[], onnx.ModelProto]
) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(make(), file)
    spec = inspected_spec(file, inspect_model(file))
    frame = np.full((64, 64, 3), 114, dtype=np.uint8)
    assert score_ceiling(file, spec, frame, threads=1) == pytest.approx(1.0, abs=0.001)
