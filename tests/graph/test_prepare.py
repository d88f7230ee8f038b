from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.errors import UnsupportedModelError
from mecha.graph.prepare import fix_input_shape, fix_input_size, load_model, to_opset
from tests.graph import networks, unfit
from tests.graph.networks import image, run
from tests.graph.other_inputs import narrow_network

SHAPE_OPS = {"Shape", "Size", "Range", "Expand", "Gather"}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (128, 64)])
def test_a_dynamic_model_is_folded_to_one_size(height: int, width: int) -> None:
    model = networks.yolov8_network(size=None)
    before = model.SerializeToString()
    fixed = fix_input_size(model, height, width)
    assert not SHAPE_OPS & {node.op_type for node in fixed.graph.node}
    np.testing.assert_array_equal(run(fixed, image(height, width))[0], run(model, image(height, width))[0])
    cells = height // 8 * (width // 8) + height // 16 * (width // 16)
    assert [dim.dim_value for dim in fixed.graph.output[0].type.tensor_type.shape.dim] == [1, 7, cells]
    assert model.SerializeToString() == before
    assert fixed.metadata_props == model.metadata_props
    onnx.checker.check_model(fixed)


def test_nodes_and_tensors_keep_their_names() -> None:
    model = networks.yolov8_network(size=None)
    fixed = fix_input_size(model, 64, 64)
    assert {node.name for node in fixed.graph.node} < {node.name for node in model.graph.node}


def test_another_size_of_a_fixed_model_is_refused() -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        fix_input_size(networks.yolov8_network(), 96, 64)
    assert str(refusal.value) == "input images: got size 1x3x96x64; expected 1x3x64x64, all that this model takes"


def test_a_size_the_model_cannot_work_with_is_refused() -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        fix_input_size(networks.yolov8_network(size=None), 72, 72)
    assert str(refusal.value).startswith("the model cannot run on 72x72 pixels: ")
    assert refusal.value.hint == "Use a size that is a multiple of the model's stride."


def test_integer_weights_are_not_folded_into_floats() -> None:
    net = networks.Network()
    weights = net.const(np.ones((4, 3, 1, 1)), np.int8)
    scale, zero = net.const(0.5), net.const(0, np.int8)
    conv = net.add("Conv", "images", net.add("DequantizeLinear", weights, scale, zero))
    fixed = fix_input_size(net.model({conv: (1, 4, 64, 64)}), 64, 64)
    assert [node.op_type for node in fixed.graph.node] == ["DequantizeLinear", "Conv"]


def test_an_older_opset_is_converted_and_nothing_else_changes() -> None:
    net = networks.Network()
    first, second = net.add_many("Split", net.block("images", 3, 8), outputs=2, axis=1)
    flat = net.add("Softmax", net.add("Squeeze", net.add("Concat", second, first, axis=1), axes=[0]), axis=1)
    model = net.model({flat: (8, 64, 64)}, opset=11, metadata={"names": "['a']"})
    converted = to_opset(model)
    assert [entry.version for entry in converted.opset_import] == [13]
    np.testing.assert_allclose(run(converted, image())[0], run(model, image())[0], rtol=1e-5)
    assert converted.graph.input == model.graph.input
    assert converted.graph.output == model.graph.output
    assert converted.metadata_props == model.metadata_props


def test_a_newer_opset_stays() -> None:
    model = networks.yolov8_network(opset=14)
    assert to_opset(model) is model


@pytest.mark.parametrize("prepare", [to_opset, lambda model: fix_input_size(model, 64, 64)], ids=["convert", "fix"])
def test_an_opset_that_onnx_does_not_know_is_refused(prepare: Callable[[onnx.ModelProto], onnx.ModelProto]) -> None:
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(UnsupportedModelError) as refusal:
        prepare(unfit.of_opset(newest + 1))
    assert str(refusal.value) == (
        f"got a model of opset {newest + 1}; expected at most {newest}, the newest that onnx {onnx.__version__} knows"
    )
    assert refusal.value.hint == (
        "Export the model again with opset 17, or install a newer onnx: pip install --upgrade onnx."
    )


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("yolov8n_dynamic", (320, 256)),
        ("yolo11n", (640, 640)),
        ("yolox_nano", (416, 416)),
        ("deepsort_feature", (64, 128)),
    ],
)
def test_real_models_give_the_same_folded_and_converted(shared_data: Path, name: str, size: tuple[int, int]) -> None:
    model = load_model(shared_data / "models" / f"{name}.onnx")
    fixed = fix_input_size(model, *size)
    assert "Shape" not in {node.op_type for node in fixed.graph.node}
    tensor = image(*size)
    expected = run(model, tensor)[0]
    np.testing.assert_allclose(run(fixed, tensor)[0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run(to_opset(fixed), tensor)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_model_of_another_number_of_channels_is_fixed_to_its_shape() -> None:
    model = narrow_network(1)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    fixed = fix_input_shape(model, (1, 1, 64, 64))
    assert [dim.dim_value for dim in fixed.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 64, 64]
    assert [dim.dim_value for dim in fixed.graph.output[0].type.tensor_type.shape.dim] == [1, 8, 16, 16]
