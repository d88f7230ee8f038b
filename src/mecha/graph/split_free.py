"""A float graph that copies no feature maps: what splits channels, or joins them, becomes convolutions.

onnxruntime runs a Conv on maps in blocks of channels, and has no such kernel for Split: the map is put back in order,
split, and put in blocks again. A Concat copies too. Weights can be taken apart instead of maps:

    Split(Conv(x))          =  Conv(x) for each part, with its rows of the weights
    Conv1x1(Concat(a, b))   =  Conv1x1(a) + Conv1x1(b), each with its columns of the weights
    Conv1x1(Resize(a))      =  Resize(Conv1x1(a)): a quarter of the products where both sides double

A sum costs nothing: onnxruntime computes it inside the Conv. Values are the same up to the order of additions.
"""

from typing import TYPE_CHECKING

import numpy as np

from mecha.graph.index import QUANTIZING_OPS, attribute_of, ints_of
from mecha.graph.reading import name_nodes
from mecha.graph.rewrite import Rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto, NodeProto

# The channels of onnxruntime's blocks: 16 with AVX512 and NEON, 8 with AVX2. A part of another width is padded.
CHANNEL_BLOCK = 16

_CHANNEL_AXES = (1, -3)
# One output value depends on one input value. Of Mul, where both factors come from the same Conv, as in SiLU.
_ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Mul"})


def split_free(model: "ModelProto") -> "ModelProto":
    """Return the model without the splits and joins of channels that weights can take over.

    What is quantized comes back as it is; so does each block whose parts are not of whole channel blocks. The outputs
    keep their names. The model given is not changed.
    """
    import onnx

    if any(node.op_type in QUANTIZING_OPS for node in model.graph.node):
        return model
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    name_nodes(rewritten.graph)
    _split_weights(rewritten)
    _join_by_sums(rewritten)
    return rewritten


def _split_weights(model: "ModelProto") -> None:
    """Replace each Split behind a Conv and its activation by a Conv and an activation for each part, in place."""
    rewrite = Rewrite(model)
    for split in model.graph.node:
        if split.op_type != "Split" or attribute_of(split, "axis") not in _CHANNEL_AXES:
            continue
        sizes = [rewrite.map_of(name)[0] for name in split.output]
        behind = _activation_behind(rewrite, split)
        if behind is None or not _whole_blocks(sizes):
            continue
        conv, activation = behind
        weights, bias = rewrite.weights(conv), rewrite.bias(conv)
        if weights is None or weights.shape[0] != sum(sizes):
            continue
        nodes: list[NodeProto] = []
        for number, (output, rows) in enumerate(zip(split.output, _ranges(sizes), strict=True)):
            part = None if bias is None else bias[rows]
            nodes.append(rewrite.conv(conv, conv.input[0], weights[rows], part, f"{conv.name}.part{number}"))
            made = {conv.output[0]: nodes[-1].output[0]}
            for node in activation:
                inputs = [made.get(name, name) for name in node.input]
                nodes.append(rewrite.copy(node, inputs, f"{node.name}.part{number}"))
                made[node.output[0]] = nodes[-1].output[0]
            nodes[-1].output[:] = [output]
        rewrite.put(split, nodes)
    rewrite.finish()


def _activation_behind(rewrite: Rewrite, split: "NodeProto") -> "tuple[NodeProto, list[NodeProto]] | None":
    """Return the Conv whose channels are split, and the nodes between, in order; None where there is no such Conv."""
    index = rewrite.index
    conv: NodeProto | None = None
    between: list[NodeProto] = []
    waiting = [split.input[0]]
    while waiting:
        name = waiting.pop()
        node = index.producers.get(name)
        if node is None or name in index.outputs:
            return None
        if node.op_type == "Conv" and (conv is None or conv is node) and attribute_of(node, "group") in {None, 1}:
            conv = node
        elif node.op_type in _ELEMENTWISE:
            if node not in between:
                between.append(node)
                waiting += [source for source in node.input if source and source not in index.constants]
        else:
            return None
    if conv is None or not rewrite.has_known_bias(conv):
        return None
    inside = {node.name for node in (*between, split)}
    made = (conv.output[0], *(node.output[0] for node in between))
    if any(reader.name not in inside for name in made for reader in index.consumers[name]):
        return None
    if any(not _is_scalar(rewrite, name) for node in between for name in node.input if name in index.constants):
        return None
    return conv, rewrite.in_order(between)


def _is_scalar(rewrite: Rewrite, name: str) -> bool:
    values = rewrite.index.array(name)
    return values is not None and values.size == 1


def _join_by_sums(model: "ModelProto") -> None:
    """Replace each 1x1 Conv that reads a Concat by a sum of Convs over its inputs, in place."""
    rewrite = Rewrite(model)
    for join in model.graph.node:
        if join.op_type != "Concat" or attribute_of(join, "axis") not in _CHANNEL_AXES:
            continue
        sizes = [rewrite.map_of(name)[0] for name in join.input]
        readers = rewrite.index.consumers.get(join.output[0], ())
        if join.output[0] in rewrite.index.outputs or not _whole_blocks(sizes):
            continue
        # As long as one reader needs the joined map, it is copied anyway.
        if all(_is_pointwise(rewrite, reader, sum(sizes)) for reader in readers):
            for reader in readers:
                rewrite.put(reader, _sum_of_parts(rewrite, reader, join, sizes))
    rewrite.finish()


def _is_pointwise(rewrite: Rewrite, node: "NodeProto", channels: int) -> bool:
    """Say whether a node is a Conv of one cell to one cell, of this many channels."""
    if node.op_type != "Conv" or attribute_of(node, "auto_pad") not in {None, b"NOTSET", b"VALID"}:
        return False
    weights = rewrite.weights(node)
    if weights is None or weights.shape[1:] != (channels, 1, 1) or not rewrite.has_known_bias(node):
        return False
    return set(ints_of(node, "strides")) <= {1} and set(ints_of(node, "pads")) <= {0}


def _sum_of_parts(rewrite: Rewrite, conv: "NodeProto", join: "NodeProto", sizes: "Sequence[int]") -> "list[NodeProto]":
    """Return the nodes that compute a Conv of joined maps without joining them."""
    weights, bias = rewrite.weights(conv), rewrite.bias(conv)
    if weights is None:
        return [conv]
    nodes: list[NodeProto] = []
    parts = list(zip(join.input, _ranges(sizes), strict=True))
    # Enlarged maps first: their sum goes into a Conv that follows, which a Resize is not.
    parts.sort(key=lambda part: _enlarges(rewrite, part[0]) is None)
    total = ""
    for number, (source, columns) in enumerate(parts):
        resize = _enlarges(rewrite, source)
        own_bias = bias if number == len(parts) - 1 else None
        read = resize.input[0] if resize is not None else source
        nodes.append(rewrite.conv(conv, read, weights[:, columns], own_bias, f"{conv.name}.part{number}"))
        if resize is not None:
            inputs = [nodes[-1].output[0], *resize.input[1:]]
            nodes.append(rewrite.copy(resize, inputs, f"{conv.name}.resize{number}"))
        if total:
            nodes.append(rewrite.node("Add", [total, nodes[-1].output[0]], f"{conv.name}.sum{number}"))
        total = nodes[-1].output[0]
    nodes[-1].output[:] = conv.output
    return nodes


def _enlarges(rewrite: Rewrite, tensor: str) -> "NodeProto | None":
    """Return the Resize that makes a map of more cells by repeating those it reads, None where none does."""
    node = rewrite.index.producers.get(tensor)
    if node is None or node.op_type not in {"Resize", "Upsample"}:
        return None
    if attribute_of(node, "mode") not in {None, b"nearest"} or len(node.input) > 3:  # noqa: PLR2004 - sizes: of all axes
        return None
    scales = rewrite.index.array(node.input[-1])
    factors = [] if scales is None else scales.astype(np.float64).tolist()
    if len(factors) != 4 or factors[:2] != [1, 1] or min(factors) < 1:  # noqa: PLR2004
        return None
    # Read by another node besides, it is made anyway.
    return node if len(rewrite.index.consumers[tensor]) == 1 and tensor not in rewrite.index.outputs else None


def _whole_blocks(sizes: "Sequence[int]") -> bool:
    return len(sizes) > 1 and all(size and size % CHANNEL_BLOCK == 0 for size in sizes)


def _ranges(sizes: "Sequence[int]") -> list[slice]:
    """The channels of each part."""
    ends = np.cumsum(sizes)
    return [slice(int(end) - size, int(end)) for end, size in zip(ends, sizes, strict=True)]
