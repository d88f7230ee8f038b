from dataclasses import replace

import numpy as np
import onnx
import pytest

from mecha.graph.index import GraphIndex
from mecha.quantize import bias
from mecha.quantize.bias import corrected
from mecha.quantize.parameters import ConvParameters, parameters_of
from mecha.quantize.probe import Recipe
from mecha.quantize.ranges import quantized_weights, weight_scales
from tests.graph.networks import Network, yolov8_network, yolox_network
from tests.quantize.probing import Bench, bench_of, images


def rounded_down(model: onnx.ModelProto, bench: Bench) -> Recipe:
    """A recipe that rounds every weight downwards: each output is too small in the mean."""
    index = GraphIndex.of(model)
    parameters = {}
    for node in model.graph.node:
        if node.name not in bench.planner.plan().integer_nodes or node.op_type != "Conv":
            continue
        given = parameters_of(index, node)
        scales = weight_scales(given.weights, bits=8, scheme="uniform")
        steps = scales.reshape(-1, 1, 1, 1)
        weights = (np.floor(given.weights / steps) * steps).astype(np.float32)
        assert np.abs(quantized_weights(weights, scales, bits=8)).max() <= 127
        parameters[node.name] = ConvParameters(weights, scales, given.bias)
    return replace(bench.recipe, parameters=parameters)


@pytest.mark.parametrize("model", [yolov8_network(), yolov8_network(activation="relu"), yolox_network()])
def test_a_bias_in_one_direction_is_mended(model: onnx.ModelProto) -> None:
    bench = bench_of(model, learned=images(4))
    recipe = rounded_down(model, bench)
    before = bench.probe.error(recipe)
    found, after = corrected(bench.probe, recipe, before, images(4), threads=1)
    least = bench.probe.error(bench.recipe)
    assert after - least < (before - least) / 2
    assert after == pytest.approx(bench.probe.error(found))
    for name, given in recipe.parameters.items():
        np.testing.assert_array_equal(found.parameters[name].weights, given.weights)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("leave_float", [False, True])
def test_the_error_never_grows(seed: int, leave_float: bool) -> None:
    model = yolov8_network(seed=seed)
    bench = bench_of(model, learned=images(1))
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    recipe = replace(bench.recipe, leave_float=tuple(convs[4:6]) if leave_float else ())
    before = bench.probe.error(recipe)
    found, after = corrected(bench.probe, recipe, before, images(1), threads=1)
    assert after <= before
    assert found.leave_float == recipe.leave_float
    assert after == pytest.approx(bench.probe.error(found))


def test_convs_without_bias_are_left_alone() -> None:
    net = Network(activation="relu")
    x = net.block(net.block("images", 3, 8, kernel=3), 8, 8, kernel=3, bias=False)
    y = net.conv(net.block(x, 8, 8, kernel=3), 8, 4)
    model = net.model({y: (1, 4, 64, 64)})
    without = next(node.name for node in model.graph.node if node.op_type == "Conv" and len(node.input) == 2)
    bench = bench_of(model)
    recipe = rounded_down(model, bench)
    found, _ = corrected(bench.probe, recipe, bench.probe.error(recipe), images(), threads=1)
    assert found.parameters[without] is recipe.parameters[without]
    assert found.parameters.keys() > recipe.parameters.keys()


def test_blocks_hold_every_conv_once_and_in_order() -> None:
    model = yolov8_network()
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    blocks = bias._blocks(model, convs)
    assert 1 < len(blocks) <= bias.BLOCKS
    assert sorted(node.name for block in blocks for node in block) == sorted(node.name for node in convs)
    assert convs[0] in blocks[0]
    assert convs[-1] in blocks[-1]
