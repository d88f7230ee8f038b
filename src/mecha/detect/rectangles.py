"""Which models run at the exact padded rectangle of a frame, and their graph with free axes.

A model with dynamic axes takes a 1080p frame as 640x384 in place of 640x640, 40 % less work. One session serves every
size: on yolov8n it is as fast as a session that is fixed to that size, and gives the same to the last bit.

What a file declares is no proof: an attention may be reshaped by constants, grids may be kept for one size. So a model
is tried at the thinnest rectangles there are and at two between, once, when it is prepared; where it does not run, or
what is decoded from the cut graph is not what its own tail gives, it stays at its square.
"""

from typing import TYPE_CHECKING

import numpy as np

from mecha.detect.decode.probe import agree
from mecha.detect.session import runtime_errors
from mecha.errors import MechaError
from mecha.graph.cut import cut_at

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.detect.decode.candidates import DecodePlan, Decoder

_RANK = 4


def with_free_axes(model: "ModelProto") -> "ModelProto | None":
    """Return the model for one image of any height and width; None where one of the two is fixed.

    Sizes that the file states of other tensors are left out, because they may be those of one input size. The model
    given is not changed.
    """
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else ()
    if len(dims) != _RANK or any(dim.HasField("dim_value") for dim in dims[2:]):
        return None
    free = onnx.ModelProto()
    free.CopyFrom(model)
    value = next(value for value in free.graph.input if value.name not in stored)
    sizes: tuple[int | str, ...] = (1, 3, "height", "width")
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, sizes))
    del free.graph.value_info[:]
    for output in free.graph.output:
        output.type.tensor_type.ClearField("shape")
    return free


def runs_at_rectangles(
    free: "ModelProto", plan: "DecodePlan", exported: "Decoder", *, height: int, width: int, stride: int
) -> bool:
    """Say whether a model gives at rectangles, cut and decoded here, what it gives there when it runs whole.

    Args:
        free: as from `with_free_axes`; float32 values, before it is cut.
        plan: where it is cut; exported: what reads its own outputs.
        height, width: the largest input, pixels.
        stride: the sides of a rectangle are multiples of it.
    """
    import onnxruntime

    if height % stride or width % stride:
        return False
    outputs = [output.name for output in free.graph.output]
    both = cut_at(free, [*outputs, *(name for name in plan.tensors if name not in outputs)])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(both.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for size in _tried(height, width, stride):
            values = np.random.default_rng(0).uniform(0, 1, (1, 3, *size)).astype(np.float32)
            feed = {session.get_inputs()[0].name: values}
            theirs = exported.at(*size).raw(session.run(outputs, feed))
            if plan.tensors:
                ours = plan.decoder.at(*size).raw(session.run(list(plan.tensors), feed))
                if not agree(ours, theirs):
                    return False
    except MechaError:  # the decoder finds no use for what came out
        return False
    except runtime_errors():
        return False
    return True


def _tried(height: int, width: int, stride: int) -> list[tuple[int, int]]:
    """Return the thinnest rectangles, and two of a quarter, where no side is one cell that could be broadcast."""
    quarter_height, quarter_width = (-(-side // (4 * stride)) * stride for side in (height, width))
    sizes = [(stride, width), (height, stride), (quarter_height, width), (height, quarter_width)]
    return list(dict.fromkeys(sizes))
