"""Bias correction: what rounding adds to the mean of each Conv's output is taken off its bias, block by block.

The expected error of a Conv's output is its weights times the expected input in FP32, minus its stored weights times
the expected input in INT8 (Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction",
2019, section 4.2; here the means are seen on frames). Blocks follow one another, because a corrected one changes what
reaches the next; within a block all Convs are corrected at once, and a
block that comes out farther from FP32 keeps its biases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.detect.session import Session
from mecha.graph.cut import cut_at
from mecha.graph.index import GraphIndex
from mecha.quantize.parameters import ConvParameters, stored_floats
from mecha.quantize.probe import Probe, Recipe, Writer
from mecha.quantize.ranges import quantized_weights, weight_scales

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Blocks that follow one another. Each costs two sessions; dependent Convs corrected together overshoot.
BLOCKS = 5
_PREFIX = "bias mean"


def corrected(
    probe: Probe, recipe: Recipe, error: float, inputs: Sequence[NDArray[np.float32]], *, threads: int
) -> tuple[Recipe, float]:
    """Return the recipe with other biases where they bring it nearer to FP32, and its error.

    Args:
        probe: judges each block, on frames that are not among `inputs`.
        error: of the recipe as it comes.
        inputs: input tensors (1, 3, height, width).
    """
    model, writer = probe.body, probe.writer
    index = GraphIndex.of(model)
    plan = writer.plan_of(recipe.leave_float)
    convs = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and len(node.input) > 2 and _stored(index, node)  # noqa: PLR2004
    ]
    wanted = _means(model, [node.input[0] for node in convs], inputs, threads)
    for block in _blocks(model, convs):
        written = writer.write(model, recipe)
        reads = {node.name: node.input[0] for node in written.graph.node if node.op_type == "Conv"}
        got = _means(written, [reads[node.name] for node in block], inputs, threads)
        parameters = dict(recipe.parameters)
        for node in block:
            integer = node.name in plan.integer_nodes
            given = _given(index, node, recipe.parameters, writer, integer=integer)
            change = _expected(stored_floats(index, node.input[1]), wanted[node.input[0]])
            change -= _expected(given.weights, got[reads[node.name]])
            bias = (given.bias if given.bias is not None else stored_floats(index, node.input[2])) + change
            parameters[node.name] = replace(given, bias=bias.astype(np.float32))
        other = replace(recipe, parameters=parameters)
        found = probe.error(other)
        if found < error:
            recipe, error = other, found
    return recipe, error


def _given(
    index: GraphIndex, node: "NodeProto", parameters: Mapping[str, ConvParameters], writer: Writer, *, integer: bool
) -> ConvParameters:
    """What the recipe writes for a Conv."""
    given = parameters.get(node.name)
    if given is not None:
        return given
    weights, bias = stored_floats(index, node.input[1]), stored_floats(index, node.input[2])
    if not integer:
        return ConvParameters(weights, None, bias)
    storage = writer.storage
    scales = weight_scales(weights, bits=storage.weight_bits, scheme=storage.scheme)
    integers = quantized_weights(weights, scales, bits=storage.weight_bits)
    return ConvParameters((integers * scales.reshape(-1, 1, 1, 1)).astype(np.float32), scales, bias)


def _expected(weights: NDArray[np.float32], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each output channel, (out,), without the bias, for inputs of these means by channel."""
    by_channel = weights.reshape(*weights.shape[:2], -1).sum(axis=2, dtype=np.float64)
    groups = len(means) // weights.shape[1]
    split = by_channel.reshape(groups, -1, weights.shape[1])
    expected: NDArray[np.float64] = np.einsum("goi,gi->go", split, means.reshape(groups, -1)).reshape(-1)
    return expected


def _blocks(model: "ModelProto", convs: Sequence["NodeProto"]) -> list[list["NodeProto"]]:
    """Group Convs by how many Convs come before them, into at most BLOCKS groups."""
    depth: dict[str, int] = {}
    at: dict[str, int] = {}
    for node in model.graph.node:
        before = max((depth.get(name, 0) for name in node.input), default=0)
        if node.op_type == "Conv":
            at[node.name] = before
            before += 1
        depth.update(dict.fromkeys(node.output, before))
    deep = max(at.values(), default=0) // BLOCKS + 1
    blocks: dict[int, list[NodeProto]] = {}
    for conv in convs:
        blocks.setdefault(at[conv.name] // deep, []).append(conv)
    return [blocks[number] for number in sorted(blocks)]


def _means(
    model: "ModelProto", tensors: Sequence[str], inputs: Sequence[NDArray[np.float32]], threads: int
) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each channel of tensors (1, channels, rows, columns) over all inputs."""
    import onnx

    names = list(dict.fromkeys(tensors))
    reduced = cut_at(model, names)
    del reduced.graph.output[:]
    for number, name in enumerate(names):
        output = f"{_PREFIX} {number}"
        reduced.graph.node.append(onnx.helper.make_node("GlobalAveragePool", [name], [output], output))
        reduced.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    session = Session(reduced.SerializeToString(), threads=threads, where="calibration")
    rows = [session.run(tensor) for tensor in inputs]
    return {name: np.mean([row[at].ravel() for row in rows], axis=0, dtype=np.float64) for at, name in enumerate(names)}


def _stored(index: GraphIndex, node: "NodeProto") -> bool:
    dims = index.weight_dims(node)
    return dims is not None and len(dims) == 4 and index.array(node.input[2]) is not None  # noqa: PLR2004
