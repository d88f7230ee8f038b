"""OpenVINO as a second runtime gives what onnxruntime gives. Runs where the extra is installed."""

from pathlib import Path

import numpy as np
import pytest

from mecha.detect.detector import Detector
from mecha.detect.images import read_image
from mecha.detect.locate import inspected_spec
from mecha.detect.openvino import OPENVINO
from mecha.detect.session import Session, other_providers
from mecha.graph.inspect import inspect_model
from mecha.store.blobs import packaged_models


def test_without_the_package_the_cpu_runs_and_a_line_says_so() -> None:
    if OPENVINO in other_providers():
        pytest.skip("OpenVINO is installed")
    session = Session(packaged_models()[0], threads=1, provider=OPENVINO, where="arena-n")
    assert session.provider == "CPUExecutionProvider"
    assert session.notice == "arena-n cannot run on OpenVINO here; running on the CPU."


@pytest.mark.shared_data
def test_it_finds_what_onnxruntime_finds(shared_data: Path) -> None:
    pytest.importorskip("openvino")
    file = shared_data / "models" / "yolov8n.onnx"
    spec = inspected_spec(file, inspect_model(file))
    frame = read_image(shared_data / "images" / "bus.jpg")
    ours = Detector.from_file(file, spec, precision="FP32", threads=1).run(frame).detections
    detector = Detector.from_file(file, spec, precision="FP32", threads=1, provider=OPENVINO)
    theirs = detector.run(frame).detections
    assert detector.provider == OPENVINO
    assert detector.notice == ""
    np.testing.assert_array_equal(theirs.class_ids, ours.class_ids)
    np.testing.assert_allclose(theirs.boxes_xyxy, ours.boxes_xyxy, atol=0.5)
    np.testing.assert_allclose(theirs.scores, ours.scores, atol=0.002)
