from typing import Any, Literal

import numpy as np
import onnx
import pytest

from mecha.graph.index import GraphIndex
from mecha.quantize.equalization import Pair, equalizing, find_pairs, with_initializers
from mecha.quantize.parameters import stored_floats
from tests.graph.networks import Network, run
from tests.quantize.probing import bench_of, images


def chain(
    after: Literal["Relu", "LeakyRelu", "none", "silu", "Tanh"], *, hot: float = 1.0, group: int = 1
) -> onnx.ModelProto:
    """Four Convs in a row, the second with one channel that is `hot` times as large and read so much less."""
    net = Network(activation="relu", seed=2)
    x = net.block("images", 3, 16, kernel=3, stride=2)
    x = net.conv(x, 16, 16, kernel=3)
    if after == "silu":
        x = net.add("Mul", x, net.add("Sigmoid", x))
    elif after != "none":
        x = net.add(after, x)
    x = net.block(x, 16, 16, kernel=3, group=group)
    y = net.conv(x, 16, 4)
    model = net.model({y: (1, 4, 32, 32)})
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name in convs[1].input[1:]:
            values[0] *= hot
        elif tensor.name == convs[2].input[1]:
            values[:, 0] /= hot
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def pairs_in(model: onnx.ModelProto) -> tuple[Pair, ...]:
    return find_pairs(model, frozenset(node.name for node in model.graph.node if node.op_type == "Conv"))


def convs_of(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("group", [1, 4, 16])
@pytest.mark.parametrize("after", ["Relu", "LeakyRelu", "none"])
def test_no_output_changes(after: Literal["Relu", "LeakyRelu", "none"], group: int) -> None:
    model = chain(after, group=group)
    names = convs_of(model)
    pairs = pairs_in(model)
    assert [(pair.maker, pair.readers) for pair in pairs] == [(names[at], (names[at + 1],)) for at in range(3)]
    arrays = equalizing(model, pairs, images(), threads=1)
    assert arrays
    changed = with_initializers(model, arrays)
    for tensor in images(2, start=9):
        np.testing.assert_allclose(run(changed, tensor)[0], run(model, tensor)[0], atol=1e-4)
    assert any(not np.allclose(array, stored_floats(GraphIndex.of(model), name)) for name, array in arrays.items())


def test_a_hot_channel_costs_less_at_the_tail() -> None:
    model = chain("Relu", hot=100.0)
    pairs = find_pairs(model, bench_of(model).planner.plan().integer_nodes)
    equal = with_initializers(model, equalizing(model, pairs, images(), threads=1))
    before, after = bench_of(model), bench_of(equal)
    assert after.probe.error(after.recipe) < before.probe.error(before.recipe) / 2


@pytest.mark.parametrize("after", ["silu", "Tanh"])
def test_what_bends_its_values_makes_no_pair(after: Literal["silu", "Tanh"]) -> None:
    model = chain(after)
    second = convs_of(model)[1]
    assert second not in [pair.maker for pair in pairs_in(model)]


def test_a_conv_that_stays_float_is_in_no_pair() -> None:
    model = chain("Relu")
    first, second, third, last = convs_of(model)
    assert find_pairs(model, frozenset({first, third})) == ()
    (pair,) = find_pairs(model, frozenset({second, third}))
    assert (pair.maker, pair.readers) == (second, (third,))
    assert find_pairs(model, frozenset({last})) == ()


@pytest.mark.parametrize("op_type", ["Concat", "Add"])
def test_what_anything_but_a_conv_reads_makes_no_pair(op_type: str) -> None:
    net = Network(activation="relu")
    first = net.block("images", 3, 8, kernel=3)
    second = net.block(first, 8, 8)
    joined = net.add(op_type, first, second, **({"axis": 1} if op_type == "Concat" else {}))
    y = net.conv(joined, 16 if op_type == "Concat" else 8, 4)
    assert pairs_in(net.model({y: (1, 4, 64, 64)})) == ()


@pytest.mark.parametrize("where", ["before the activation", "after it"])
def test_what_leaves_the_model_makes_no_pair(where: str) -> None:
    net = Network()
    x = net.conv("images", 3, 8, kernel=3)
    shown = net.add("Relu", x)
    y = net.conv(shown, 8, 4)
    model = net.model({y: (1, 4, 64, 64), (x if where == "before the activation" else shown): (1, 8, 64, 64)})
    assert pairs_in(model) == ()


def test_weights_that_two_convs_share_are_in_no_pair() -> None:
    net = Network()
    weights = net.const(net.rng.normal(size=(3, 3, 1, 1)))
    x = net.add("Relu", net.add("Conv", "images", weights, kernel_shape=[1, 1]))
    x = net.add("Relu", net.add("Conv", x, weights, kernel_shape=[1, 1]))
    y = net.conv(x, 3, 4)
    assert pairs_in(net.model({y: (1, 4, 64, 64)})) == ()


def test_all_readers_of_a_tensor_make_up_for_its_scales() -> None:
    net = Network(activation="relu")
    x = net.block("images", 3, 8, kernel=3)
    y = net.add("Add", net.conv(x, 8, 4), net.conv(x, 8, 4, kernel=3))
    model = net.model({y: (1, 4, 64, 64)})
    (pair,) = pairs_in(model)
    assert (pair.maker, list(pair.readers)) == (convs_of(model)[0], convs_of(model)[1:])
    changed = with_initializers(model, equalizing(model, (pair,), images(), threads=1))
    np.testing.assert_allclose(run(changed, images()[0])[0], run(model, images()[0])[0], atol=1e-4)


def test_a_channel_that_never_takes_a_value_stays_as_it_is() -> None:
    net = Network()
    weights = net.rng.normal(size=(8, 3, 3, 3))
    weights[3] = 0
    biases = net.rng.normal(size=8)
    biases[3] = 0
    sizes: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    x = net.add("Relu", net.add("Conv", "images", net.const(weights), net.const(biases), **sizes))
    y = net.conv(x, 8, 4)
    model = net.model({y: (1, 4, 64, 64)})
    arrays = equalizing(model, pairs_in(model), images(), threads=1)
    reader = next(node for node in model.graph.node if node.name == convs_of(model)[1])
    np.testing.assert_array_equal(
        arrays[reader.input[1]][:, 3], stored_floats(GraphIndex.of(model), reader.input[1])[:, 3]
    )
    assert all(np.isfinite(array).all() for array in arrays.values())
