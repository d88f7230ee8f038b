from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mecha.detect.images import read_image
from mecha.graph.cut import cut_at, find_tail
from mecha.graph.prepare import fix_input_size, load_model
from mecha.graph.split_free import split_free
from tests.graph import networks
from tests.graph.networks import Network, image, run


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def farthest(model: onnx.ModelProto, rewritten: onnx.ModelProto, pixels: NDArray[np.float32]) -> float:
    """The largest difference of any output, as a share of the largest value of that output."""
    pairs = zip(run(model, pixels), run(rewritten, pixels), strict=True)
    return max(float(np.abs(one - other).max() / np.abs(one).max()) for one, other in pairs)


@pytest.mark.parametrize("activation", ["silu", "relu", "relu6", "none"])
def test_a_split_behind_a_convolution_becomes_two_convolutions(activation: networks.Activation) -> None:
    net = Network(activation=activation)
    first, second = net.split(net.block("images", 3, 48, kernel=3), (16, 32), axis=1)
    model = net.model({first: (1, 16, 64, 64), second: (1, 32, 64, 64)})
    rewritten = split_free(model)
    assert operators(rewritten)["Split"] == 0
    assert operators(rewritten)["Conv"] == 2
    assert [value.name for value in rewritten.graph.output] == [first, second]
    assert farthest(model, rewritten, image()) < 1e-6
    onnx.checker.check_model(rewritten)


def test_a_joined_map_is_summed_where_only_pointwise_convolutions_read_it() -> None:
    net = Network()
    parts = [net.block("images", 3, wide, kernel=3) for wide in (16, 32)]
    joined = net.add("Concat", *parts, axis=1)
    model = net.model({net.block(joined, 48, 8): (1, 8, 64, 64), net.conv(joined, 48, 16, bias=False): (1, 16, 64, 64)})
    rewritten = split_free(model)
    assert operators(rewritten)["Concat"] == 0
    assert operators(rewritten)["Conv"] == 2 + 2 * 2
    assert farthest(model, rewritten, image()) < 1e-6
    onnx.checker.check_model(rewritten)


def test_a_joined_map_that_another_node_reads_stays() -> None:
    net = Network()
    parts = [net.block("images", 3, 16, kernel=3) for _ in range(2)]
    joined = net.add("Concat", *parts, axis=1)
    model = net.model(dict.fromkeys([net.conv(joined, 32, 8), net.conv(joined, 32, 8, kernel=3)], (1, 8, 64, 64)))
    assert operators(split_free(model)) == operators(model)


def test_an_enlarged_map_is_convolved_before_it_is_enlarged() -> None:
    net = Network()
    fine = net.block("images", 3, 16, kernel=3)
    coarse = net.block(fine, 16, 32, kernel=3, stride=2)
    scales = net.const([1.0, 1.0, 2.0, 2.0])
    up = net.add("Resize", coarse, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric")
    model = net.model({net.block(net.add("Concat", fine, up, axis=1), 48, 16): (1, 16, 64, 64)})
    rewritten = split_free(model)
    (resize,) = (node for node in rewritten.graph.node if node.op_type == "Resize")
    (before,) = (node for node in rewritten.graph.node if resize.input[0] in node.output)
    assert (before.op_type, before.input[0]) == ("Conv", coarse)
    assert farthest(model, rewritten, image()) < 1e-6


@pytest.mark.parametrize(("mode", "scale"), [("linear", 2.0), ("nearest", 0.5)], ids=["linear", "smaller"])
def test_a_map_that_is_resized_otherwise_is_read_as_it_is(mode: str, scale: float) -> None:
    net = Network()
    source = net.block("images", 3, 16, kernel=3)
    side = int(64 * scale)
    resized = net.add("Resize", source, "", net.const([1.0, 1.0, scale, scale]), mode=mode)
    joined = net.add("Concat", resized, net.add("Relu", resized), axis=1)
    model = net.model({net.conv(joined, 32, 16): (1, 16, side, side)})
    rewritten = split_free(model)
    reader = [node.op_type for node in rewritten.graph.node if resized in node.input]
    assert sorted(reader) == ["Conv", "Relu"]
    assert farthest(model, rewritten, image()) < 1e-6


@pytest.mark.parametrize("wide", [(8, 8), (24, 8), (16, 8)], ids=["narrow", "uneven", "one fits"])
def test_parts_that_are_no_whole_blocks_stay(wide: tuple[int, int]) -> None:
    net = Network()
    parts = net.split(net.block("images", 3, sum(wide), kernel=3), wide, axis=1)
    model = net.model({net.conv(net.add("Concat", *reversed(parts), axis=1), sum(wide), 16): (1, 16, 64, 64)})
    assert operators(split_free(model)) == operators(model)


def test_a_split_of_what_something_else_reads_too_stays() -> None:
    net = Network()
    x = net.block("images", 3, 32)
    first, second = net.split(x, (16, 16), axis=1)
    model = net.model({first: (1, 16, 64, 64), second: (1, 16, 64, 64), net.add("Relu", x): (1, 32, 64, 64)})
    assert operators(split_free(model)) == operators(model)


def test_a_split_along_another_axis_stays() -> None:
    net = Network()
    parts = net.split(net.block("images", 3, 32), (32, 32), axis=2)
    model = net.model(dict.fromkeys(parts, (1, 32, 32, 64)))
    assert operators(split_free(model)) == operators(model)


def test_a_split_after_an_operation_between_channels_stays() -> None:
    net = Network()
    parts = net.split(net.add("Softmax", net.conv("images", 3, 32), axis=1), (16, 16), axis=1)
    model = net.model(dict.fromkeys(parts, (1, 16, 64, 64)))
    assert operators(split_free(model)) == operators(model)


def test_what_is_quantized_stays() -> None:
    net = Network()
    scale, zero = net.const(0.1), net.const(0, np.uint8)
    pixels = net.add("DequantizeLinear", net.add("QuantizeLinear", "images", scale, zero), scale, zero)
    parts = net.split(net.block(pixels, 3, 32), (16, 16), axis=1)
    model = net.model(dict.fromkeys(parts, (1, 16, 64, 64)))
    assert split_free(model) is model


def test_the_model_given_is_not_changed() -> None:
    model = networks.yolov8_network()
    before = model.SerializeToString()
    split_free(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("named", [True, False])
def test_a_whole_detector_gives_the_same_boxes_and_scores(*, named: bool) -> None:
    model = networks.yolov8_network(named=named)
    rewritten = split_free(model)
    assert operators(rewritten)["Conv"] > operators(model)["Conv"]
    assert farthest(model, rewritten, image()) < 1e-6
    assert rewritten.metadata_props == model.metadata_props
    onnx.checker.check_model(rewritten)


@pytest.mark.parametrize(
    "model",
    [networks.yolov5_network(), networks.yolox_network(), networks.nanodet_network(), networks.end_to_end_network()],
    ids=["yolov5", "yolox", "nanodet", "end_to_end"],
)
def test_other_families_give_the_same(model: onnx.ModelProto) -> None:
    assert farthest(model, split_free(model), image()) < 1e-5


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "size", "splits", "joins"),
    [
        ("yolov8n", 640, 0, 0),
        ("yolov8n_dynamic", 320, 0, 0),
        ("yolo11n", 640, 1, 0),  # that of the attention, between channels and tokens
        ("yolov5n", 640, 0, 0),
        ("yolox_nano", 416, 0, 1),  # that of the Focus stem, of three channels each
    ],
)
def test_real_models_give_the_same_logits(shared_data: Path, name: str, size: int, splits: int, joins: int) -> None:
    model = load_model(shared_data / "models" / f"{name}.onnx")
    if name.endswith("dynamic"):
        model = fix_input_size(model, size, size)
    model = cut_at(model, find_tail(model).boundary)
    rewritten = split_free(model)
    assert (operators(rewritten)["Split"], operators(rewritten)["Concat"]) == (splits, joins)
    photo = read_image(shared_data / "images" / "bus.jpg")
    pixels = cv2.resize(photo, (size, size))[..., ::-1].transpose(2, 0, 1)[None] / np.float32(255)
    assert farthest(model, rewritten, pixels) < 1e-4
