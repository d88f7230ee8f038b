from typing import Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mecha.graph.cut import cut_at
from mecha.graph.index import GraphIndex
from mecha.quantize import reconstruction
from mecha.quantize.grams import Gram
from mecha.quantize.parameters import ConvParameters, parameters_of
from mecha.quantize.qdq import Storage
from mecha.quantize.ranges import Scheme, weight_scales
from mecha.quantize.reconstruction import clipped_scales, reconstructed
from tests.graph.networks import Network, run, yolov8_network
from tests.quantize.convs import correlated, gram_of

STORAGE = Storage("uint8", 8)


def images(size: int = 16, count: int = 3) -> list[NDArray[np.float32]]:
    """So small that every place is looked at."""
    rng = np.random.default_rng(0)
    return [rng.random((1, 3, size, size), dtype=np.float32) for _ in range(count)]


def named_convs(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def found_in(
    model: onnx.ModelProto, convs: list[str], inputs: list[NDArray[np.float32]], storage: Storage = STORAGE
) -> dict[str, ConvParameters]:
    return reconstructed(model, convs, lambda: iter(inputs), storage, threads=1, on_conv=lambda _: None)


def with_parameters(model: onnx.ModelProto, name: str, given: ConvParameters) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    node = next(node for node in changed.graph.node if node.name == name)
    values = {node.input[1]: given.weights}
    if given.bias is not None:
        values[node.input[2]] = given.bias
    for tensor in changed.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    return changed


@pytest.mark.parametrize("group", [1, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_mean_of_each_output_channel_stays(group: int, stride: int) -> None:
    net = Network()
    x = net.block("images", 3, 8, kernel=3)
    y = net.conv(x, 8, 8, kernel=3, stride=stride, group=group)
    model = net.model({y: (1, 8, "rows", "columns")}, size=None)
    conv = named_convs(model)[1]
    inputs = images(12)
    changed = with_parameters(model, conv, found_in(model, [conv], inputs)[conv])
    wanted, got = (np.concatenate([run(each, tensor)[0] for tensor in inputs]) for each in (model, changed))
    assert np.abs(wanted - got).max() > 1e-4
    np.testing.assert_allclose(got.mean(axis=(0, 2, 3)), wanted.mean(axis=(0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("scheme", ["uniform", "symmetric", "power_of_two"])
def test_weights_are_integers_times_their_scale(bits: Literal[7, 8], scheme: Scheme) -> None:
    model = yolov8_network(size=None)
    convs = named_convs(model)[1:-1]
    index = GraphIndex.of(model)
    nodes = {node.name: node for node in model.graph.node}
    for name, found in found_in(model, convs, images(), Storage("uint8", bits, scheme)).items():
        given = parameters_of(index, nodes[name])
        assert found.scales is not None
        integers = found.weights / found.scales.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
        assert np.abs(integers).max() < (127.5 if bits == 8 else 64.5)
        assert found.weights.shape == given.weights.shape
        if scheme == "power_of_two":
            assert (np.log2(found.scales) == np.rint(np.log2(found.scales))).all()


def test_every_conv_is_told_of_and_one_without_bias_gets_none() -> None:
    net = Network()
    x = net.block(net.block("images", 3, 8, kernel=3), 8, 8, bias=False)
    model = net.model({x: (1, 8, "rows", "columns")}, size=None)
    told: list[int] = []
    convs = named_convs(model)
    found = reconstructed(model, convs, lambda: iter(images()), STORAGE, threads=1, on_conv=told.append)
    assert told == [1, 2]
    assert [found[name].bias is None for name in convs] == [False, True]


def some_gram(seed: int, groups: int, inputs: int) -> Gram:
    rng = np.random.default_rng(seed)
    drawn = [correlated(rng, 200, inputs) for _ in range(groups)]
    return Gram(np.stack([gram_of(part) for part in drawn]), np.stack([part.mean(axis=0) for part in drawn]))


def measured(weights: NDArray[np.float32], scales: NDArray[np.float32], gram: Gram, limit: int) -> NDArray[np.float64]:
    """What rounding to the nearest changes, each weight as much as its input varies; (out,)."""
    groups, inputs = gram.means.shape
    grouped, steps = weights.reshape(groups, -1, inputs), scales.reshape(groups, -1, 1).astype(np.float64)
    change = np.clip(np.rint(grouped / steps), -limit, limit) * steps - grouped
    found: NDArray[np.float64] = (np.square(change) * np.einsum("gkk->gk", gram.products)[:, None]).sum(axis=2).ravel()
    return found


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("groups", [1, 4])
def test_clipping_is_never_worse_than_not_to_clip(bits: Literal[7, 8], groups: int) -> None:
    rng = np.random.default_rng(8)
    # Heavy tails: that is where clipping pays.
    weights = rng.standard_t(4, (24, 6, 3, 3)).astype(np.float32)
    gram = some_gram(9, groups, 54)
    storage = Storage("uint8", bits)
    whole = weight_scales(weights, bits=bits, scheme="uniform")
    clipped = clipped_scales(weights, gram, storage)
    limit = 127 if bits == 8 else 64
    assert (clipped <= whole).all()
    assert (clipped < whole).any()
    assert (measured(weights, clipped, gram, limit) <= measured(weights, whole, gram, limit) * (1 + 1e-6)).all()


def test_powers_of_two_stay_powers_of_two() -> None:
    weights = np.random.default_rng(10).normal(size=(6, 2, 3, 3)).astype(np.float32)
    scales = clipped_scales(weights, some_gram(11, 1, 18), Storage("uint8", 8, "power_of_two"))
    np.testing.assert_array_equal(scales, weight_scales(weights, bits=8, scheme="power_of_two"))


def test_the_output_of_a_whole_body_stays_nearer_than_by_the_nearest_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = yolov8_network(size=None, seed=1)
    conv = named_convs(model)[4]
    output = next(node.output[0] for node in model.graph.node if node.name == conv)
    body = cut_at(model, [output])
    learned, held_out = images(32, 6)[:4], images(32, 6)[4:]

    def error() -> float:
        changed = with_parameters(body, conv, found_in(body, [conv], learned)[conv])
        return sum(float(np.square(run(body, tensor)[0] - run(changed, tensor)[0]).sum()) for tensor in held_out)

    by_reconstruction = error()
    monkeypatch.setattr(
        reconstruction,
        "rounded",
        lambda weights, _, scales, limit: np.clip(np.rint(weights / scales[:, :, None]), -limit, limit),
    )
    assert by_reconstruction < 0.8 * error()


@pytest.mark.parametrize("grey", [0.0, 0.3])
def test_frames_of_a_covered_camera_tell_nothing_and_break_nothing(grey: float) -> None:
    model = yolov8_network(size=None)
    convs = named_convs(model)[1:-1]
    flat = [np.full((1, 3, 16, 16), grey, dtype=np.float32)] * 4
    for found in found_in(model, convs, flat).values():
        assert found.bias is not None
        assert np.isfinite(found.bias).all()
        assert np.isfinite(found.weights).all()
