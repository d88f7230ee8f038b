from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from mecha.detect.images import read_image
from mecha.graph.cut import cut_at, find_tail
from mecha.graph.index import ints_of
from mecha.graph.prepare import fix_input_size, load_model
from mecha.graph.row_pairs import in_row_pairs
from mecha.graph.split_free import split_free
from tests.graph import networks
from tests.graph.networks import Network, image
from tests.graph.test_split_free import farthest, operators


@pytest.mark.parametrize(("height", "width"), [(2, 1), (2, 64), (6, 5), (64, 64)])
@pytest.mark.parametrize("activation", ["silu", "relu6", "none"])
def test_two_rows_at_a_time_give_the_same_rows(height: int, width: int, activation: networks.Activation) -> None:
    net = Network(activation=activation)
    x = net.block(net.conv("images", 3, 32), 32, 48, kernel=3)
    model = net.model({x: (1, 48, height, width)}, size=(height, width))
    rewritten = in_row_pairs(model)
    kernels = [ints_of(node, "kernel_shape") for node in rewritten.graph.node]
    assert (3, 3) not in kernels
    assert [value.name for value in rewritten.graph.output] == [x]
    pixels = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    assert farthest(model, rewritten, pixels) < 3e-6
    onnx.checker.check_model(rewritten)


def test_rows_stay_apart_from_one_convolution_to_the_next() -> None:
    net = Network()
    x = net.conv("images", 3, 32)
    for _ in range(3):
        x = net.block(x, 32, 32, kernel=3)
    rewritten = in_row_pairs(net.model({net.conv(x, 32, 8): (1, 8, 64, 64)}))
    assert operators(rewritten)["Reshape"] == 1


def test_rows_are_together_again_where_another_node_reads_them() -> None:
    net = Network()
    x = net.conv("images", 3, 32)
    inner = net.block(net.block(x, 32, 32, kernel=3), 32, 32, kernel=3)
    joined = net.add("MaxPool", net.add("Add", x, inner), kernel_shape=[2, 2], strides=[2, 2])
    model = net.model({net.conv(inner, 32, 8, kernel=3, stride=2): (1, 8, 32, 32), joined: (1, 32, 32, 32)})
    rewritten = in_row_pairs(model)
    assert operators(rewritten)["Reshape"] == 1
    assert farthest(model, rewritten, image()) < 3e-6
    onnx.checker.check_model(rewritten)


def test_an_output_that_is_also_read_keeps_its_name() -> None:
    net = Network()
    x = net.block(net.conv("images", 3, 32), 32, 32, kernel=3)
    y = net.block(x, 32, 32, kernel=3)
    model = net.model({x: (1, 32, 64, 64), y: (1, 32, 64, 64)})
    assert farthest(model, in_row_pairs(model), image()) < 3e-6


@pytest.mark.parametrize(
    ("kernel", "stride", "group", "height"),
    [(3, 2, 1, 64), (3, 1, 32, 64), (5, 1, 1, 64), (1, 1, 1, 64), (3, 1, 1, 63)],
    ids=["stride 2", "depthwise", "5x5", "1x1", "odd height"],
)
def test_other_convolutions_stay(kernel: int, stride: int, group: int, height: int) -> None:
    net = Network()
    x = net.conv(net.conv("images", 3, 32), 32, 32, kernel=kernel, stride=stride, group=group)
    model = net.model({x: (1, 32, height // stride, 64 // stride)}, size=(height, 64))
    assert operators(in_row_pairs(model)) == operators(model)


@pytest.mark.parametrize(("wide", "out"), [(16, 64), (64, 16), (40, 40)])
def test_few_channels_and_broken_blocks_stay(wide: int, out: int) -> None:
    net = Network()
    model = net.model({net.conv(net.conv("images", 3, wide), wide, out, kernel=3): (1, out, 64, 64)})
    assert operators(in_row_pairs(model)) == operators(model)


def test_what_is_quantized_stays() -> None:
    net = Network()
    scale, zero = net.const(0.1), net.const(0, np.uint8)
    pixels = net.add("DequantizeLinear", net.add("QuantizeLinear", "images", scale, zero), scale, zero)
    model = net.model({net.block(net.conv(pixels, 3, 32), 32, 32, kernel=3): (1, 32, 64, 64)})
    assert in_row_pairs(model) is model


def test_the_model_given_is_not_changed() -> None:
    model = networks.yolov8_network()
    before = model.SerializeToString()
    assert operators(in_row_pairs(model)) != operators(model)
    assert model.SerializeToString() == before


def test_a_height_that_may_be_odd_stays() -> None:
    model = networks.yolov8_network(size=None)
    assert operators(in_row_pairs(model)) == operators(model)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 80), (96, 48)])
def test_a_free_height_of_known_steps_runs_in_pairs(height: int, width: int) -> None:
    model = networks.yolov8_network(size=None)
    rewritten = in_row_pairs(split_free(model), stride=16)
    kernels = [ints_of(node, "kernel_shape") for node in rewritten.graph.node]
    assert (1, 3) in kernels
    assert farthest(model, rewritten, image(height, width)) < 3e-6


@pytest.mark.parametrize("named", [True, False])
def test_a_whole_detector_gives_the_same_boxes_and_scores(*, named: bool) -> None:
    model = networks.yolov8_network(named=named)
    rewritten = in_row_pairs(split_free(model))
    assert farthest(model, rewritten, image()) < 3e-6
    assert rewritten.metadata_props == model.metadata_props
    onnx.checker.check_model(rewritten)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "size"),
    [("yolov8n", 640), ("yolov8n_dynamic", 320), ("yolo11n", 640), ("yolov5n", 640), ("yolox_nano", 416)],
)
def test_real_models_give_the_same_logits(shared_data: Path, name: str, size: int) -> None:
    model = load_model(shared_data / "models" / f"{name}.onnx")
    if name.endswith("dynamic"):
        model = fix_input_size(model, size, size)
    model = cut_at(model, find_tail(model).boundary)
    photo = read_image(shared_data / "images" / "bus.jpg")
    pixels = cv2.resize(photo, (size, size))[..., ::-1].transpose(2, 0, 1)[None] / np.float32(255)
    assert farthest(model, in_row_pairs(split_free(model)), pixels) < 1e-4
