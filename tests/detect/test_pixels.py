import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mecha.detect.pixels import take_pixels
from mecha.detect.preprocess import Preprocessor, pixel_scale
from mecha.detect.session import Session
from tests.detect.blob_detector import blob_detector


def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)


def stem(op_type: str, *, opset: int = 13, quantized: bool = False) -> onnx.ModelProto:
    """One node that reads the image, and a QuantizeLinear behind it where asked for."""
    weights = [numpy_helper.from_array(np.random.default_rng(2).normal(size=(4, 3, 3, 3)).astype(np.float32), "w")]
    nodes = [helper.make_node(op_type, ["image", "w"] if op_type == "Conv" else ["image"], ["features"])]
    if quantized:
        weights += [
            numpy_helper.from_array(np.array(0.1, np.float32), "s"),
            numpy_helper.from_array(np.array(128, np.uint8), "z"),
        ]
        nodes.append(helper.make_node("QuantizeLinear", ["features", "s", "z"], ["bytes"]))
        nodes.append(helper.make_node("DequantizeLinear", ["bytes", "s", "z"], ["out"]))
    else:
        nodes.append(helper.make_node("Relu", ["features"], ["out"]))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None]) for name in ("image", "out")
    ]
    graph = helper.make_graph(nodes, "stem", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "before"),
    [
        (stem("Conv"), ["DequantizeLinear"]),
        (stem("Conv", opset=9), ["Cast", "Mul"]),
        (stem("Relu"), ["Cast", "Mul"]),
        # onnxruntime would quantize this Conv, weights per tensor.
        (stem("Conv", quantized=True), ["Cast", "Mul"]),
    ],
)
def test_pixels_give_what_their_values_give(model: onnx.ModelProto, before: list[str]) -> None:
    (expected,) = Session(model.SerializeToString(), threads=1).run(pixels() * np.float32(1 / 255))
    assert take_pixels(model, 1 / 255)
    assert [node.op_type for node in model.graph.node][: len(before)] == before
    onnx.checker.check_model(model)
    session = Session(model.SerializeToString(), threads=1)
    assert session.inputs[0].dtype == "uint8"
    np.testing.assert_array_equal(session.run(pixels())[0], expected)


def test_a_model_of_unscaled_pixels_only_needs_them_as_floats() -> None:
    model = stem("Conv")
    assert take_pixels(model, 1.0)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Conv", "Relu"]


def test_several_readers_of_the_image_all_get_values() -> None:
    model = onnx.load_from_string(blob_detector())
    stem_node = next(node for node in model.graph.node if "images" in node.input)
    model.graph.node.append(helper.make_node("Conv", list(stem_node.input), ["twice"], strides=[8, 8]))
    model.graph.output.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, None))
    expected = Session(model.SerializeToString(), threads=1).run(pixels() * np.float32(1 / 255))
    assert take_pixels(model, 1 / 255)
    for got, want in zip(Session(model.SerializeToString(), threads=1).run(pixels()), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_names_that_are_taken_are_left_to_the_model() -> None:
    model = stem("Conv")
    for name in ("image_values", "image_pixel_scale", "image_pixel_zero"):
        model.graph.initializer.append(numpy_helper.from_array(np.array(3, np.float32), name))
        model.graph.node.append(helper.make_node("Identity", [name], [f"{name}_read"]))
    assert take_pixels(model, 1 / 255)
    onnx.checker.check_model(model)
    Session(model.SerializeToString(), threads=1).run(pixels())


def test_a_model_that_takes_another_type_stays_as_it_is() -> None:
    model = stem("Conv")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    before = model.SerializeToString()
    assert not take_pixels(model, 1 / 255)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("preset", ["yolo", "yolox", "detr", "raw"])
def test_pixels_times_their_scale_are_the_values(preset: str) -> None:
    scale = pixel_scale(preset)  # type: ignore[arg-type]  # one of the presets
    assert scale is not None
    prepare_values = Preprocessor(preset, 64, 96)  # type: ignore[arg-type]
    prepare_pixels = Preprocessor(preset, 64, 96, pixels=True)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    for size in ((100, 60, 3), (10, 300, 3), (64, 96, 3)):
        frame = rng.integers(0, 256, size, dtype=np.uint8)
        values, geometry = prepare_values(frame)
        got, same_geometry = prepare_pixels(frame)
        assert got.dtype == np.dtype(np.uint8)
        assert same_geometry == geometry
        np.testing.assert_array_equal(got * np.float32(scale), values)


def test_channels_of_different_scales_have_no_pixel_scale() -> None:
    assert pixel_scale("imagenet") is None
