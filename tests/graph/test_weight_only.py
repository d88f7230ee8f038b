from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mecha.graph.weight_only import is_weight_only, with_float_weights
from mecha.quantize.fusion import float_convs, requantized_convs
from mecha.quantize.options import StaticOptions
from mecha.quantize.probe import Recipe
from mecha.quantize.qdq import stored_convs
from mecha.quantize.reconstruction import reconstructed
from mecha.quantize.static import build_static
from tests.graph.networks import Network, image, run, yolov8_network
from tests.quantize.frames_of_noise import PatchFrames, spec_of
from tests.quantize.probing import bench_of, images


def int8_of(model: onnx.ModelProto, folder: Path, *, rounding: bool = True) -> bytes:
    fp32, target = folder / "model.onnx", folder / "int8.onnx"
    fp32.write_bytes(model.SerializeToString())
    options = StaticOptions(range="minmax", rounding=rounding, mixed_precision=False, bias_correction=False)
    build_static(fp32, target, PatchFrames(2), spec_of(), options=options, threads=1)
    return target.read_bytes()


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return onnx.load_from_string(int8_of(yolov8_network(), tmp_path_factory.mktemp("int8")))


def test_weights_as_floats_give_the_same_outputs(int8: onnx.ModelProto) -> None:
    before = int8.SerializeToString()
    floats = with_float_weights(int8)
    assert any(is_weight_only(node) for node in int8.graph.node)
    assert not any(is_weight_only(node) for node in floats.graph.node)
    assert len(floats.graph.node) < len(int8.graph.node)
    np.testing.assert_allclose(run(floats, image())[0], run(int8, image())[0], rtol=1e-5, atol=1e-5)
    onnx.checker.check_model(floats, full_check=True)
    # What nothing reads any more is not carried along, and the model itself is not changed.
    read = {name for node in floats.graph.node for name in node.input}
    assert {tensor.name for tensor in floats.graph.initializer} <= read
    assert int8.SerializeToString() == before


def test_a_model_without_such_weights_is_left_as_it_is(tmp_path: Path) -> None:
    fp32 = yolov8_network()
    assert with_float_weights(fp32) is fp32
    nearest = onnx.load_from_string(int8_of(fp32, tmp_path, rounding=False))
    assert any(node.op_type == "DequantizeLinear" for node in nearest.graph.node)
    assert with_float_weights(nearest) is nearest


def test_a_file_whose_convs_are_left_float_stays_small_and_plain_onnxruntime_runs_it() -> None:
    net = Network()
    x = net.block(net.block("images", 3, 16, kernel=3, stride=2), 16, 128, kernel=3, stride=2)
    x = net.block(net.block(x, 128, 128, kernel=3), 128, 128, kernel=3)
    y = net.conv(x, 128, 8)
    model = net.model({y: (1, 8, 16, 16)})
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    bench = bench_of(model)
    parameters = reconstructed(
        model, convs[1:], lambda: iter(images()), bench.probe.writer.storage, threads=1, on_conv=lambda _: None
    )

    def written(recipe: Recipe) -> bytes:
        return bytes(bench.probe.writer.write(model, recipe).SerializeToString())

    rounded = replace(bench.recipe, parameters=parameters)
    whole = written(rounded)
    left = written(replace(rounded, leave_float=(convs[3],)))
    as_float = written(replace(bench.recipe, leave_float=(convs[3],)))
    weights = 128 * 128 * 9
    assert abs(len(left) - len(whole)) < 0.1 * weights
    assert len(as_float) > len(left) + 2.9 * weights
    session = onnxruntime.InferenceSession(left, providers=["CPUExecutionProvider"])
    (plain,) = session.run(None, {"images": image()})
    assert np.square(plain - run(model, image())[0]).sum() < 0.02 * np.square(plain).sum()
    turned = with_float_weights(onnx.load_from_string(left))
    assert set(stored_convs(turned.graph.node)) == {convs[1], convs[2]}


def test_such_convs_are_not_blamed_for_running_in_float(int8: onnx.ModelProto) -> None:
    data = int8.SerializeToString()
    dequantized = {node.output[0] for node in int8.graph.node if is_weight_only(node)}
    convs = [node.name for node in int8.graph.node if node.op_type == "Conv" and node.input[1] in dequantized]
    assert convs
    assert not set(convs) & set(stored_convs(int8.graph.node))
    assert (float_convs(data), requantized_convs(data)) == ((), ())
    # Were it not for the name, they would be.
    for node in int8.graph.node:
        if is_weight_only(node):
            node.name = node.name.removesuffix("_weight_only")
    assert set(float_convs(int8.SerializeToString())) == set(convs)
