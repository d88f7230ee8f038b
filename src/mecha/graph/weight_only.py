"""Convs that compute in float on weights stored as integers: they spare three quarters of the weights' bytes.

onnxruntime turns such weights into floats again in every run, and lays out only constants for its fastest kernels. So
the copy that mecha runs has them turned once.
"""

from typing import TYPE_CHECKING

import numpy as np

from mecha.graph.index import GraphIndex

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# What the name of the DequantizeLinear ends in: nothing else tells such a Conv from one that should be integer.
WEIGHT_ONLY = "_weight_only"


def is_weight_only(node: "NodeProto") -> bool:
    """Say whether a node turns the weights of a Conv into floats that is float by design."""
    return node.op_type == "DequantizeLinear" and node.name.endswith(WEIGHT_ONLY)


def with_float_weights(model: "ModelProto") -> "ModelProto":
    """Return the model with the weights of such Convs as floats; the model itself where it has none."""
    import onnx

    found = [node for node in model.graph.node if is_weight_only(node)]
    if not found:
        return model
    index = GraphIndex.of(model)
    written = onnx.ModelProto()
    written.CopyFrom(model)
    graph = written.graph
    gone = {node.output[0] for node in found}
    kept = [node for node in graph.node if not gone.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    for node in found:
        integers, scales = index.array(node.input[0]), index.array(node.input[1])
        if integers is None or scales is None:
            message = f"{node.name} reads weights that are not stored in the model"
            raise ValueError(message)
        by_channel = scales.astype(np.float32).reshape(-1, *[1] * (integers.ndim - 1))
        floats = integers.astype(np.float32) * by_channel
        graph.initializer.append(onnx.numpy_helper.from_array(floats, node.output[0]))
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    stored = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(stored)
    return written
