from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mecha.quantize import grams
from mecha.quantize.grams import PLACES, Gram, find_grams
from tests.graph.networks import Network, yolov8_network
from tests.quantize.convs import gram_of, patches


def images(count: int = 2, size: tuple[int, int] = (12, 13)) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [rng.random((1, 3, *size), dtype=np.float32) for _ in range(count)]


def one_conv(
    channels: int = 3, *, group: int = 1, kernel: tuple[int, int] = (3, 3), **attributes: Any
) -> onnx.ModelProto:
    net = Network()
    weights = net.const(net.rng.normal(size=(2 * group, channels // group, *kernel)))
    y = net.add("Conv", "images", weights, kernel_shape=kernel, group=group, **attributes)
    return net.model({y: (1, 2 * group, "rows", "columns")}, size=None)


def found_in(model: onnx.ModelProto, inputs: list[NDArray[np.float32]]) -> dict[str, Gram]:
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    return dict(find_grams(model, convs, lambda: iter(inputs), threads=1, on_frame=lambda: None))


@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        ((1, 1), {}),
        ((3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
        ((3, 2), {"strides": (1, 3), "pads": (0, 1, 2, 1)}),
        ((3, 3), {"dilations": (2, 3), "pads": (2, 2, 1, 0)}),
        ((2, 3), {"dilations": (3, 1), "strides": (2, 1)}),
    ],
)
def test_a_gram_is_that_of_all_patches_where_they_are_few(kernel: tuple[int, int], sizes: dict[str, Any]) -> None:
    inputs = images()
    (gram,) = found_in(one_conv(kernel=kernel, **sizes), inputs).values()
    seen = np.concatenate([patches(tensor, kernel, **sizes) for tensor in inputs])
    assert len(seen) / len(inputs) <= PLACES
    np.testing.assert_allclose(gram.means[0], seen.mean(axis=0), rtol=1e-4, atol=1e-5)
    wanted = gram_of(seen)
    np.testing.assert_allclose(gram.products[0], wanted, atol=1e-4 * np.abs(wanted).max())


def test_each_group_sees_its_own_channels() -> None:
    inputs = images()
    (gram,) = found_in(one_conv(group=3, strides=(1, 1)), inputs).values()
    assert gram.products.shape == (3, 9, 9)
    for group in range(3):
        seen = np.concatenate([patches(tensor[:, group : group + 1], (3, 3)) for tensor in inputs])
        wanted = gram_of(seen)
        np.testing.assert_allclose(gram.products[group], wanted, atol=1e-4 * np.abs(wanted).max())
        np.testing.assert_allclose(gram.means[group], seen.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_of_many_places_some_are_taken_and_say_about_the_same() -> None:
    inputs = images(8, (48, 48))
    (gram,) = found_in(one_conv(pads=(1, 1, 1, 1)), inputs).values()
    seen = np.concatenate([patches(tensor, (3, 3), pads=(1, 1, 1, 1)) for tensor in inputs])
    wanted = gram_of(seen) * (PLACES * len(inputs) / len(seen))
    assert np.abs(gram.products[0] - wanted).max() < 0.15 * np.abs(wanted).max()
    (again,) = found_in(one_conv(pads=(1, 1, 1, 1)), inputs).values()
    np.testing.assert_array_equal(again.products, gram.products)


@pytest.mark.parametrize("rule", ["SAME_UPPER", "SAME_LOWER"])
def test_a_conv_that_is_padded_by_a_rule_is_passed_over(rule: str) -> None:
    assert found_in(one_conv(auto_pad=rule), images()) == {}


def test_a_conv_without_pads_by_name_is_none_of_those() -> None:
    assert len(found_in(one_conv(auto_pad="VALID"), images())) == 1


class Counted:
    """Input tensors so small that all places are taken, and how often they were gone through."""

    def __init__(self) -> None:
        self.rounds = 0

    def __call__(self) -> Iterator[NDArray[np.float32]]:
        self.rounds += 1
        return iter(images(size=(16, 16)))


def test_passes_keep_to_the_memory_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = yolov8_network(size=None)
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"][:-1]
    together, apart = Counted(), Counted()
    frames: list[int] = []
    whole = dict(find_grams(model, convs, together, threads=1, on_frame=lambda: None))
    monkeypatch.setattr(grams, "_LARGEST_PASS_BYTES", 3 * 4 * (32 * 9 + 1) ** 2)
    parts = dict(find_grams(model, convs, apart, threads=1, on_frame=lambda: frames.append(1)))
    assert together.rounds == 1
    assert apart.rounds > 2
    assert len(frames) == 2 * apart.rounds
    assert whole.keys() == parts.keys() == set(convs)
    for name in convs:
        np.testing.assert_allclose(
            parts[name].products, whole[name].products, atol=1e-4 * np.abs(whole[name].products).max()
        )
