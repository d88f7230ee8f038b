"""A graph that takes bytes: pixels become numbers inside the session, not in a pass over the frame before it.

The published files take float32, as every ONNX tool expects. What is loaded here may take uint8 in the same order
(1, 3, H, W): a quarter of the bytes are written for each frame, and the numbers the graph computes with are the same to
the last bit, because `uint8 * float32` is what the pass over the frame did too.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto, NodeProto

# The first opset whose DequantizeLinear is known.
_DEQUANTIZE_OPSET = 10
_RANK = 4


def take_pixels(model: "ModelProto", scale: float) -> bool:
    """Let a model take uint8 pixels in place of float32 values, in place; say whether it does now.

    One that has more than one input, or another type than float32, stays as it is.

    Args:
        model: its input becomes `value = pixel * scale` inside.
        scale: what a pixel is multiplied with.
    """
    import onnx

    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1 or any(value.name == inputs[0].name for value in graph.output):
        return False
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(tensor.shape.dim) != _RANK:
        return False
    name = inputs[0].name
    values = _free_name(model, f"{name}_values")
    readers = [node for node in graph.node if name in node.input]
    if not readers or _read_by_subgraph(graph.node, name):
        return False
    for node in readers:
        node.input[:] = [values if source == name else source for source in node.input]
    before = _conversion(model, readers, name, values, scale)
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    tensor.elem_type = onnx.TensorProto.UINT8
    return True


def _conversion(
    model: "ModelProto", readers: "Sequence[NodeProto]", name: str, values: str, scale: float
) -> "list[NodeProto]":
    """Return the nodes that turn pixels into values; their constants are added to the model."""
    import onnx

    make = onnx.helper.make_node
    graph = model.graph
    if scale == 1:
        return [make("Cast", [name], [values], name=values, to=onnx.TensorProto.FLOAT)]
    factor = _free_name(model, f"{name}_pixel_scale")
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(scale, dtype=np.float32), factor))
    if _may_dequantize(model, readers):
        # One pass instead of two: 0.5 to 0.8 ms of a frame of 640 x 640.
        zero = _free_name(model, f"{name}_pixel_zero")
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, dtype=np.uint8), zero))
        return [make("DequantizeLinear", [name, factor, zero], [values], name=values)]
    floats = _free_name(model, f"{name}_pixels")
    return [
        make("Cast", [name], [floats], name=floats, to=onnx.TensorProto.FLOAT),
        make("Mul", [floats, factor], [values], name=values),
    ]


def _free_name(model: "ModelProto", wanted: str) -> str:
    """Return a name that neither a tensor nor a node has: quantizers name the scale of `images` `images_scale`."""
    graph = model.graph
    taken = {name for node in graph.node for name in (node.name, *node.output)}
    taken |= {tensor.name for tensor in (*graph.initializer, *graph.input)}
    while wanted in taken:
        wanted += "_"
    return wanted


def _may_dequantize(model: "ModelProto", readers: "Sequence[NodeProto]") -> bool:
    """Say whether DequantizeLinear leaves the first convolutions what they are.

    onnxruntime takes a float Conv between DequantizeLinear and QuantizeLinear for one to quantize, weights per tensor.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if opset < _DEQUANTIZE_OPSET or any(node.op_type != "Conv" for node in readers):
        return False
    made = {output for node in readers for output in node.output}
    return not any(node.op_type == "QuantizeLinear" and node.input[0] in made for node in model.graph.node)


def _read_by_subgraph(nodes: "Sequence[NodeProto]", name: str) -> bool:
    from mecha.graph.index import inputs_of

    return any(name in inputs_of(node) and name not in node.input for node in nodes)
