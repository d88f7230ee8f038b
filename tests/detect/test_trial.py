"""A family that somebody says is tried: what the outputs cannot be is said, and what they are is let through."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.detect.locate import inspected_spec
from mecha.detect.trial import _fault, family_fault
from mecha.graph.family import FAMILIES
from mecha.graph.inspect import inspect_model
from tests.detect.blob_detector import blob_detector, blob_spec
from tests.detect.tails import yolov5_detector
from tests.graph import networks

MAKERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "yolov8": networks.yolov8_network,
    "yolov5": yolov5_detector,
    "yolox": networks.yolox_network,
    "end_to_end": networks.end_to_end_network,
    "detr": networks.two_output_network,
    "nanodet": networks.nanodet_network,
}
NAMES = ("cone", "ball", "tag")


def tried(file: Path, family: str) -> str:
    spec = inspected_spec(file, inspect_model(file))
    # The random weights are made for values between 0 and 1.
    return family_fault(file, spec.model_copy(update={"family": family, "preprocessing": "yolo", "classes": NAMES}))


@pytest.mark.parametrize("family", MAKERS)
def test_no_model_passes_for_one_of_another_family(tmp_path: Path, family: str) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(MAKERS[family](), file)
    assert [other for other in FAMILIES if not tried(file, other)] == [family]


def decoded_yolox() -> onnx.ModelProto:
    """A YOLOX that gives pixels: cells of 8 and of 16 pixels, as the network has them for 64x64."""
    model = networks.yolox_network()
    raw = model.graph.output[0].name
    rows = [
        (column, row, stride) for stride in (8, 16) for row in range(64 // stride) for column in range(64 // stride)
    ]
    grid = np.array(rows, np.float32)[None]
    for name, value in (("cells", grid[..., :2]), ("strides", grid[..., 2:]), ("sizes", np.array([2, 2, 4]))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    model.graph.node.extend(
        [
            onnx.helper.make_node("Split", [raw, "sizes"], ["xy", "wh", "rest"], axis=2),
            onnx.helper.make_node("Add", ["xy", "cells"], ["shifted"]),
            onnx.helper.make_node("Mul", ["shifted", "strides"], ["centres"]),
            onnx.helper.make_node("Exp", ["wh"], ["cell_sizes"]),
            onnx.helper.make_node("Mul", ["cell_sizes", "strides"], ["extents"]),
            onnx.helper.make_node("Concat", ["centres", "extents", "rest"], ["pixels"], axis=2),
        ]
    )
    model.graph.output[0].name = "pixels"
    return model


@pytest.mark.parametrize(
    ("make", "is_of", "is_not_of"),
    [(networks.yolox_network, "yolox", "yolov5"), (decoded_yolox, "yolov5", "yolox")],
    ids=["raw boxes", "decoded boxes"],
)
def test_a_shape_that_fits_is_not_enough(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], is_of: str, is_not_of: str
) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(make(), file)
    assert tried(file, is_of) == ""
    assert tried(file, is_not_of).startswith("got boxes ")


def test_a_model_whose_task_is_not_known_is_read_as_its_family_says(tmp_path: Path) -> None:
    model = onnx.load_from_string(blob_detector())
    onnx.helper.set_model_props(model, {"task": "find blobs"})
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    assert inspect_model(file).family is None
    assert family_fault(file, blob_spec()) == ""
    assert family_fault(file, blob_spec().model_copy(update={"family": "yolov5"})) == (
        "got an output of shape [1, 6, 80]; expected [1, anchors, 7], as the family yolov5 has"
    )


@pytest.mark.parametrize(
    ("scores", "boxes", "fault"),
    [
        ([[0.5]], [[np.nan, 0, 1, 1]], "got NaN or infinity in its boxes or scores; expected numbers"),
        ([[12.5], [-3.0]], [[0, 0, 1, 1]] * 2, "got scores from -3 to 12.5; expected 0 to 1"),
        ([[0.1]], [[1, 0, 0, 1]], "got boxes of which 100% end before they begin; expected corners x1 y1 x2 y2"),
        (
            [[0.1]] * 2,
            [[0, 0, 0.01, 0.01], [0.01, 0, 0.02, 0.02]],
            "got boxes whose centres deviate by 0.00 of the frame's sides; expected about 0.29, all over it",
        ),
        (
            [[0.1]] * 2,
            [[0, 0, 1, 1], [30, 30, 31, 31]],
            "got boxes whose centres deviate by 15.00 of the frame's sides; expected about 0.29, all over it",
        ),
        ([[0.1]] * 2, [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], ""),
    ],
    ids=["no numbers", "no scores", "turned", "in a corner", "beside the frame", "right"],
)
def test_what_is_no_box_and_no_score_is_said(scores: list[list[float]], boxes: list[list[float]], fault: str) -> None:
    assert _fault(np.array(scores, np.float32), np.array(boxes, np.float32), spread=True) == fault


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "family"), [("yolov5n", "yolov5"), ("yolox_nano", "yolox"), ("yolo11n", "yolov8")])
def test_real_models_pass_for_what_they_are_alone(shared_data: Path, name: str, family: str) -> None:
    file = shared_data / "models" / f"{name}.onnx"
    spec = inspected_spec(file, inspect_model(file))
    assert [one for one in FAMILIES if not family_fault(file, spec.model_copy(update={"family": one}))] == [family]
