"""The parts a model is made of, told by the names of its nodes or by its structure, and their times."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mecha.graph.cut import find_tail
from mecha.graph.index import GraphIndex
from mecha.quantize.node_latency import owned_times
from mecha.quantize.qdq import stored_convs
from mecha.quantize.report.rows import BlockRow, FloatConv

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

TAIL = "decode tail"
_BEFORE = "before the first Conv"
_TOKEN = re.compile(r"[^/.]+")
_DEEPEST = 5
_FEWEST_BLOCKS, _MOST_BLOCKS = 5, 60
# Names tell modules apart where nearly all Convs have one, and no module holds half of them.
_NAMED_SHARE = 0.9
_LARGEST_SHARE = 0.5


def block_rows(
    fp32: "ModelProto", int8: "ModelProto", inputs: Sequence[NDArray[Any]], *, threads: int, runs: int = 8
) -> tuple[BlockRow, ...]:
    """Return the time of each block in either precision, in graph order; the models run in turns.

    Args:
        fp32: its nodes named; int8 likewise.
        inputs: input tensors, taken in turns.
        runs: timed runs of each model.
    """
    models = [model.SerializeToString() for model in (fp32, int8)]
    times = owned_times(models, inputs, threads=threads, reference=fp32, runs=runs)
    blocks = blocks_of(fp32)
    integer = integer_convs(int8)
    convs = [node.name for node in fp32.graph.node if node.op_type == "Conv"]
    found = []
    for block in dict.fromkeys(blocks.values()):
        members = {name for name, owner in blocks.items() if owner == block}
        fp32_ms, int8_ms = (sum(ms for name, ms in owned.items() if name in members) for owned in times)
        inside = members.intersection(convs)
        found.append(BlockRow(block, len(inside), len(inside & integer), round(fp32_ms, 4), round(int8_ms, 4)))
    return tuple(found)


def blocks_of(model: "ModelProto") -> dict[str, str]:
    """Return the block of each node, by name.

    A block is the module that the nodes' names begin with, `/model.2`, where names tell modules apart. Otherwise it is
    a Conv with all that follows it up to the next Convs. The decode tail is a block of its own.
    """
    index = GraphIndex.of(model)
    nodes = [node for node in model.graph.node if node.output and node.output[0] not in index.constants]
    tail = find_tail(model).nodes
    depth = _module_depth([node.name for node in nodes if node.op_type == "Conv" and node.name not in tail])
    found: dict[str, str] = {}
    made: dict[str, str] = {}
    order = {_BEFORE: 0}
    for node in nodes:
        before = max(
            (made[name] for name in node.input if name in made), key=lambda block: order[block], default=_BEFORE
        )
        if node.name in tail:
            block = TAIL
        elif depth:
            block = _module(node.name, depth) or before
        else:
            block = _described(index, node) if node.op_type == "Conv" else before
        order.setdefault(block, len(order))
        found[node.name] = block
        made |= dict.fromkeys(node.output, block)
    return found


def _module_depth(convs: Sequence[str]) -> int:
    """Return how many tokens of the Convs' names make a readable number of modules; 0 where no number does."""
    for depth in range(1, _DEEPEST + 1):
        counts = Counter(_module(name, depth) for name in convs)
        named = len(convs) - counts.pop("", 0)
        if (
            _FEWEST_BLOCKS <= len(counts) <= _MOST_BLOCKS
            and named >= _NAMED_SHARE * len(convs)
            and max(counts.values()) <= _LARGEST_SHARE * len(convs)
        ):
            return depth
    return 0


def _module(name: str, depth: int) -> str:
    """Return what a node's name begins with, "" where it is not that deep: `/model.2/cv1/conv/Conv`, 2: `/model.2`."""
    tokens = list(_TOKEN.finditer(name))
    return name[: tokens[depth - 1].end()] if depth < len(tokens) else ""


def _described(index: GraphIndex, conv: "NodeProto") -> str:
    """Return a Conv's name and what it does: `Conv_41 (3x3, 12 to 16)`."""
    dims = index.weight_dims(conv)
    if dims is None:
        return conv.name
    groups = next((attribute.i for attribute in conv.attribute if attribute.name == "group"), 1)
    channels = f"{dims[1] * groups} to {dims[0]}" if groups == 1 else f"{dims[0]} in {groups} groups"
    return f"{conv.name} ({'x'.join(map(str, dims[2:]))}, {channels})"


def integer_convs(int8: "ModelProto") -> frozenset[str]:
    """Return the Convs that a file stores in integers, by the names they have in the FP32 model."""
    kinds = ("ConvInteger", "QLinearConv")
    # onnxruntime's converter puts this behind the name of what it replaces.
    replaced = {node.name.removesuffix("_quant") for node in int8.graph.node if node.op_type in kinds}
    return frozenset(stored_convs(int8.graph.node)) | replaced


def float_convs_of(fp32: "ModelProto", int8: "ModelProto") -> tuple[FloatConv, ...]:
    """Return the Convs that the INT8 file keeps in float, in graph order, with where they stand."""
    index = GraphIndex.of(fp32)
    tail, integer = find_tail(fp32), integer_convs(int8)
    behind_a_conv: set[str] = set()
    found = []
    for node in fp32.graph.node:
        behind = not behind_a_conv.isdisjoint(node.input)
        if behind or node.op_type == "Conv":
            behind_a_conv.update(node.output)
        if node.op_type != "Conv" or node.name in integer or node.output[0] in index.constants:
            continue
        if node.name in tail.nodes:
            found.append(FloatConv(node.name, "tail"))
        elif node.name in tail.last_convs:
            found.append(FloatConv(node.name, "last"))
        else:
            found.append(FloatConv(node.name, "body" if behind else "first"))
    return tuple(found)
