import onnx
import pytest

from mecha.errors import ConfigError
from mecha.graph.cut import find_tail
from mecha.graph.index import GraphIndex
from mecha.quantize.plan import Planner, activation_of
from tests.graph import networks


def convs_of(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def test_stem_last_convs_and_tail_stay_float_and_everything_between_is_integer() -> None:
    model = networks.yolov8_network()
    plan, tail = Planner(model).plan(), find_tail(model)
    convs = convs_of(model)
    assert set(plan.float_convs) == {convs[0], convs[-1], *tail.last_convs}
    assert not plan.integer_nodes & tail.nodes
    stem = activation_of(GraphIndex.of(model), model.graph.node[0])
    assert not plan.integer_nodes & {node.name for node in stem}
    kinds = {node.op_type for node in model.graph.node if node.name in plan.integer_nodes}
    assert kinds == {"Conv", "Sigmoid", "Mul", "Split", "Add", "Concat", "MaxPool", "Resize"}


def test_a_focus_stem_is_float_up_to_its_first_conv() -> None:
    model = networks.yolox_network()
    plan = Planner(model).plan()
    first = next(position for position, node in enumerate(model.graph.node) if node.op_type == "Conv")
    assert not plan.integer_nodes & {node.name for node in model.graph.node[: first + 3]}
    assert model.graph.node[first + 3].name in plan.integer_nodes


def test_what_hands_values_on_shares_one_range() -> None:
    model = networks.yolov8_network()
    plan = Planner(model).plan()
    for node in model.graph.node:
        if node.op_type in {"MaxPool", "Resize", "Split"} and node.name in plan.integer_nodes:
            assert {plan.roots[name] for name in node.output} == {plan.roots[node.input[0]]}


def test_sizes_are_no_business_of_the_quantizer() -> None:
    fixed, dynamic = networks.yolov8_network(), networks.yolov8_network(size=None)
    index = GraphIndex.of(dynamic)
    plan = Planner(dynamic).plan()
    assert len(plan.integer_nodes) == len(Planner(fixed).plan().integer_nodes)
    assert all(index.producers[name].op_type not in {"Shape", "Gather", "Range", "Cast"} for name in plan.roots)


def test_an_activation_that_a_range_can_stand_for_is_absorbed() -> None:
    model = networks.yolov8_network(activation="relu")
    plan = Planner(model).plan()
    relus = [node for node in model.graph.node if node.op_type == "Relu"][1:]
    assert {node.name for node in relus} <= plan.integer_nodes
    assert not {node.input[0] for node in relus} & plan.roots.keys()
    kept = Planner(model).plan(absorb=False)
    assert {node.input[0] for node in relus} <= kept.roots.keys()


def test_attention_between_integer_convs_stays_float() -> None:
    net = networks.Network()
    x = net.block(net.block("images", 3, 16, kernel=3, stride=2), 16, 16)
    query, key = net.split(net.add("Reshape", net.conv(x, 16, 32), net.const([1, 32, -1], "int64")), (16, 16), axis=1)  # type: ignore[arg-type]
    weights = net.add("MatMul", net.add("Transpose", query, perm=[0, 2, 1]), key)
    weights = net.add("Softmax", net.add("Mul", weights, net.const(0.25)), axis=-1)
    mixed = net.add("Reshape", net.add("MatMul", key, weights), net.const([1, 16, 32, 32], "int64"))  # type: ignore[arg-type]
    y = net.conv(net.block(net.add("Add", x, mixed), 16, 16), 16, 4)
    model = net.model({y: (1, 4, 32, 32)})
    plan = Planner(model).plan()
    kinds = {node.op_type: node.name in plan.integer_nodes for node in model.graph.node[8:]}
    assert not kinds["MatMul"]
    assert not kinds["Softmax"]
    assert kinds["Add"]
    index = GraphIndex.of(model)
    scaled = next(node for node in model.graph.node if node.op_type == "Mul" and index.constants & set(node.input))
    assert scaled.name not in plan.integer_nodes


def test_convs_left_float_take_their_activation_with_them() -> None:
    model = networks.yolov8_network()
    index = GraphIndex.of(model)
    conv = convs_of(model)[3]
    plan = Planner(model).plan(leave_float=(conv,))
    node = next(node for node in model.graph.node if node.name == conv)
    gone = {conv, *(after.name for after in activation_of(index, node))}
    assert Planner(model).plan().integer_nodes - plan.integer_nodes == gone
    assert conv in plan.float_convs


def test_nodes_and_what_follows_a_tensor_can_be_excluded() -> None:
    model = networks.yolov8_network()
    add = next(node for node in model.graph.node if node.op_type == "Add")
    assert add.name not in Planner(model).plan(exclude_nodes=(add.name,)).integer_nodes
    plan = Planner(model).plan(truncate=(add.output[0],))
    before = [node.name for node in model.graph.node[: list(model.graph.node).index(add)]]
    assert plan.integer_nodes
    assert plan.integer_nodes <= {*before, add.name}


def test_all_names_that_are_not_there_are_told_together_with_the_nearest() -> None:
    model = networks.yolov8_network()
    conv = convs_of(model)[0]
    with pytest.raises(ConfigError) as refusal:
        Planner(model).plan(exclude_nodes=(conv + "x",), truncate=("images9",), leave_float=("Resize",))
    assert str(refusal.value).splitlines() == [
        f'exclude_nodes: got "{conv}x"; expected the name of a node of the model; did you mean "{conv}"?',
        'truncate: got "images9"; expected the name of a tensor of the model',
        'leave_float: got "Resize"; expected the name of a Conv of the model',
    ]


def test_a_float_conv_between_integer_ones_gets_a_guard_only_where_nothing_follows_it() -> None:
    silu, bare = (networks.yolov8_network(activation=kind) for kind in ("silu", "none"))
    assert not Planner(silu).plan(leave_float=(convs_of(silu)[3],)).guarded
    plan = Planner(bare).plan(leave_float=(convs_of(bare)[3],))
    conv = next(node for node in bare.graph.node if node.name == convs_of(bare)[3])
    assert conv.output[0] in plan.guarded
