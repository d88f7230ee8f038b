from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.errors import ConfigError
from mecha.graph.cut import cut_at, find_tail, find_yolov8_head
from mecha.graph.index import GraphIndex
from mecha.graph.reading import load_model, name_nodes
from tests.graph import networks
from tests.graph.networks import image, run


@pytest.mark.parametrize(
    "make",
    [
        networks.yolov8_network,
        lambda: networks.yolov8_network(size=None),
        lambda: networks.yolov8_network(joint=True),
        lambda: networks.yolov8_network(classes=32),  # as many class channels as box channels
        lambda: networks.yolov8_network(classes=32, joint=True),
        lambda: networks.yolov8_network(classes=1, reg_max=16),
        lambda: networks.yolov8_network(activation="relu"),
    ],
)
def test_the_head_is_split_by_level_finest_first(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    head = find_yolov8_head(model)
    assert head is not None
    index = GraphIndex.of(model)
    for tensors, channels in ((head.boxes, 4 * head.reg_max), (head.scores, head.class_count)):
        assert [index.downsampling(name) for name in tensors] == list(networks.STRIDES)
        assert [(index.weight_dims(index.producers[name]) or (0,))[0] for name in tensors] == [channels] * 2


def test_boxes_and_scores_are_not_mixed_up_where_they_are_equally_wide() -> None:
    apart, joint = (networks.yolov8_network(classes=32, joint=joint) for joint in (False, True))
    heads = [find_yolov8_head(model) for model in (apart, joint)]
    assert heads[0] is not None
    assert heads[0] == heads[1]  # both exports hold the same Convs, made in the same order


def test_the_dfl_conv_belongs_to_the_tail() -> None:
    model = networks.yolov8_network()
    tail = find_tail(model)
    assert len(tail.boundary) == len(tail.last_convs) == 4
    dfl = [node.name for node in model.graph.node if node.op_type == "Conv"][-1]
    assert dfl in tail.nodes
    assert not tail.nodes.intersection(tail.last_convs)


def test_an_objectness_conv_is_no_dfl_conv() -> None:
    model = networks.yolox_network()
    tail = find_tail(model)
    index = GraphIndex.of(model)
    widths = [(index.weight_dims(index.producers[name]) or (0,))[0] for name in tail.boundary]
    assert widths == [4, 1, 3] * 2
    assert [index.downsampling(name) for name in tail.boundary] == [8] * 3 + [16] * 3
    assert find_yolov8_head(model) is None


@pytest.mark.parametrize("make", [networks.yolov5_network, networks.nanodet_network, networks.classifier_network])
def test_other_heads_are_none_of_yolov8(make: Callable[[], onnx.ModelProto]) -> None:
    assert find_yolov8_head(make()) is None


def test_a_size_read_in_the_tail_is_no_branch_of_it() -> None:
    model = networks.yolov8_network(size=None)
    early = next(node for node in model.graph.node if node.op_type == "Conv")
    shape = onnx.helper.make_node("Shape", [early.output[0]], ["early_shape"], "early")
    first = onnx.helper.make_node("Slice", ["early_shape", "from", "to"], ["early_batch"], "batch")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array([value], dtype=np.int64), name)
        for name, value in (("from", 0), ("to", 1))
    )
    output = model.graph.output[0].name
    sizes = onnx.helper.make_node("Concat", ["early_batch", "to"], ["sizes"], "sizes", axis=0)
    unused = onnx.helper.make_node("ConstantOfShape", ["sizes"], ["zeros"], "zeros")
    total = onnx.helper.make_node("Add", [output, "zeros"], ["total"], "total")
    model.graph.node.extend([shape, first, sizes, unused, total])
    model.graph.output[0].name = "total"
    assert early.name not in find_tail(model).last_convs


def test_a_cut_model_gives_what_the_whole_one_has_there() -> None:
    model = networks.yolov8_network()
    tensors = find_tail(model).boundary[::-1]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    cut = cut_at(model, tensors)
    for got, expected in zip(run(cut, image()), run(shown, image())[1:], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert [value.name for value in cut.graph.output] == list(tensors)
    assert len(cut.graph.node) < len(model.graph.node)
    assert len(cut.SerializeToString()) < len(model.SerializeToString())
    assert {entry.key for entry in cut.metadata_props} == {"names", "stride", "task", "imgsz"}


def test_a_cut_at_a_tensor_that_is_not_there_names_the_nearest() -> None:
    model = networks.yolov8_network()
    tensor = find_tail(model).boundary[0]
    with pytest.raises(ConfigError) as refusal:
        cut_at(model, [tensor + "x"])
    assert str(refusal.value) == f"{tensor}x: no such tensor in the model; did you mean {tensor}?"


def test_a_subgraph_keeps_what_it_takes_from_outside() -> None:
    net = networks.Network()
    x = net.block("images", 3, 8)
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", [x], ["minus"], "minus")],
        "inner",
        [],
        [onnx.helper.make_tensor_value_info("minus", onnx.TensorProto.FLOAT, None)],
    )
    same = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [x], ["plus"], "plus")],
        "same",
        [],
        [onnx.helper.make_tensor_value_info("plus", onnx.TensorProto.FLOAT, None)],
    )
    y = net.add("If", net.const(True, np.bool_), then_branch=inner, else_branch=same)
    model = net.model({y: (1, 8, 64, 64)})
    np.testing.assert_allclose(run(cut_at(model, [y]), image())[0], run(model, image())[0])


def test_an_integer_conv_ends_where_its_float_result_is(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = networks.yolov8_network()
    tail = find_tail(model)
    target = tmp_path / "int8.onnx"
    quantize_dynamic(model, target, weight_type=QuantType.QUInt8, nodes_to_exclude=sorted(tail.nodes))
    int8 = load_model(target)
    assert find_tail(int8).boundary == tail.boundary
    assert find_yolov8_head(int8) == find_yolov8_head(model)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "branches", "head"),
    [
        ("yolov8n", 6, True),
        ("yolov8n_dynamic", 6, True),
        ("yolo11n", 6, True),
        ("yolov5n", 3, False),
        ("yolox_nano", 9, False),
        ("yolov8n_int8_broken", 6, False),  # its tail is quantized: cut before it, it would detect what it does not
    ],
)
def test_tails_of_real_models(shared_data: Path, name: str, branches: int, head: bool) -> None:
    model = load_model(shared_data / "models" / f"{name}.onnx")
    assert len(find_tail(model).boundary) == branches
    found = find_yolov8_head(model)
    assert (found is not None) == head
    if found is not None:
        index = GraphIndex.of(model)
        assert [index.downsampling(tensor) for tensor in found.boxes + found.scores] == [8, 16, 32] * 2
        assert (found.reg_max, found.class_count) == (16, 80)


def test_names_given_to_nodes_are_stable() -> None:
    first, second = (networks.yolov8_network(named=False) for _ in range(2))
    for model in (first, second):
        name_nodes(model.graph)
    assert find_tail(first) == find_tail(second)
