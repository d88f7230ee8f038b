"""What a decode tail computes, found by running it: for heads whose constants no pattern of nodes names reliably."""

from typing import TYPE_CHECKING

from mecha.graph.cut import cut_at
from mecha.graph.index import GraphIndex, inputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto


def run_tail(model: "ModelProto", values: "Mapping[str, NDArray[np.float32]]") -> "list[NDArray[np.float32]] | None":
    """Compute a model's outputs from tensors in its middle.

    Args:
        model: of a fixed input size; it is not changed.
        values: float32, by tensor.

    Returns:
        The outputs; None where they need more than `values`, or cannot be computed from values of this shape.
    """
    import onnx
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    index = GraphIndex.of(model)
    if not _suffice(index, frozenset(values)):
        return None
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for node in part.graph.node:
        # What made these tensors gives them under another name, which nobody reads, and is left out by the cut.
        node.output[:] = [f"{name}_replaced" if name in values else name for name in node.output]
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in values.items()
    ]
    del part.graph.input[:]
    del part.graph.value_info[:]
    part.graph.input.extend(inputs)
    part = cut_at(part, index.outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(values)))
    except (faults.Fail, faults.InvalidArgument, faults.InvalidGraph, faults.NotImplemented, faults.RuntimeException):
        return None


def _suffice(index: GraphIndex, tensors: frozenset[str]) -> bool:
    """Whether the outputs depend on these tensors and on constants only."""
    seen: set[str] = set()
    stack = list(index.outputs)
    while stack:
        name = stack.pop()
        if name in seen or name in tensors or name in index.constants:
            continue
        seen.add(name)
        node = index.producers.get(name)
        if node is None:
            return False
        stack.extend(inputs_of(node))
    return True
