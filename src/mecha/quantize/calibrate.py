"""See the values of every tensor on calibration frames, frame by frame, without keeping them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.detect.session import Session
from mecha.errors import QuantizationError
from mecha.graph.cut import cut_at
from mecha.quantize.ranges import Range, extremes, mean_extremes, percentile_range

if TYPE_CHECKING:
    from onnx import ModelProto

Tensor = NDArray[np.float32]
# Each call starts over: the histograms need a second look at the same frames.
Inputs = Callable[[], Iterable[Tensor]]

_BINS = 2048
# What one run of the histogram pass may hold at a time; more tensors take more runs.
_LARGEST_RUN_BYTES = 256 * 2**20


def find_ranges(
    model: "ModelProto",
    tensors: Sequence[str],
    inputs: Inputs,
    *,
    method: str,
    threads: int,
    on_frame: Callable[[], None],
) -> dict[str, Range]:
    """Return the range of each tensor.

    Memory does not grow with the number of frames: the model itself reduces each tensor to its extremes, or, for the
    percentile, a chunk of tensors at a time is counted into histograms.

    Args:
        model: FP32, of one input size.
        inputs: input tensors (1, 3, height, width), the same at each call.
        method: "mean_minmax", "minmax" or "percentile".
        on_frame: called after each frame of each pass.

    Raises:
        QuantizationError: a tensor is not finite, or there is no frame.
    """
    lows, highs = _extremes_by_frame(model, tensors, inputs, threads, on_frame)
    if method == "percentile":
        bounds = {name: extremes(lows[:, at], highs[:, at]) for at, name in enumerate(tensors)}
        return _percentiles(model, bounds, inputs, threads, on_frame)
    choose = mean_extremes if method == "mean_minmax" else extremes
    return {name: choose(lows[:, at], highs[:, at]) for at, name in enumerate(tensors)}


def _extremes_by_frame(
    model: "ModelProto", tensors: Sequence[str], inputs: Inputs, threads: int, on_frame: Callable[[], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimum and maximum, (frames, tensors) each."""
    session = Session(with_extremes(model, tensors).SerializeToString(), threads=threads, where="calibration")
    rows = []
    for tensor in inputs():
        rows.append([float(value) for value in session.run(tensor)])
        on_frame()
    if not rows:
        raise QuantizationError("calibration: got no frame; expected at least one")
    seen = np.array(rows, dtype=np.float64).reshape(len(rows), 2, len(tensors))
    if not np.isfinite(seen).all():
        bad = tensors[int(np.argwhere(~np.isfinite(seen))[0][2])]
        raise QuantizationError(
            f"calibration: tensor {bad} holds values that are not finite; expected numbers",
            hint="The FP32 model itself overflows on these frames; check its preprocessing preset.",
        )
    return seen[:, 0], seen[:, 1]


def with_extremes(model: "ModelProto", tensors: Sequence[str]) -> "ModelProto":
    """Return a model whose outputs are the minimum of each tensor, then the maximum of each, as scalars."""
    import onnx

    reduced = cut_at(model, tensors)
    del reduced.graph.output[:]
    for op_type in ("ReduceMin", "ReduceMax"):
        for number, name in enumerate(tensors):
            output = f"{op_type}_{number}"
            reduced.graph.node.append(
                onnx.helper.make_node(op_type, [name], [output], f"{op_type}.{number}", keepdims=0)
            )
            reduced.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, []))
    return reduced


def _percentiles(
    model: "ModelProto", bounds: dict[str, Range], inputs: Inputs, threads: int, on_frame: Callable[[], None]
) -> dict[str, Range]:
    counts = {name: np.zeros(_BINS, dtype=np.int64) for name in bounds}
    for chunk in _chunks(model, list(bounds)):
        session = Session(cut_at(model, chunk).SerializeToString(), threads=threads, where="calibration")
        for tensor in inputs():
            for name, values in zip(chunk, session.run(tensor), strict=True):
                limits = bounds[name]
                if limits.high > limits.low:
                    counts[name] += np.histogram(values, _BINS, (limits.low, limits.high))[0]
            on_frame()
    return {name: percentile_range(counts[name], limits.low, limits.high) for name, limits in bounds.items()}


def _chunks(model: "ModelProto", tensors: Sequence[str]) -> Iterator[list[str]]:
    """Split the tensors so that the values of each part fit into memory together."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model)
    sizes = {
        value.name: 4 * int(np.prod([dim.dim_value for dim in value.type.tensor_type.shape.dim], dtype=np.int64))
        for value in (*shaped.graph.value_info, *shaped.graph.input, *shaped.graph.output)
    }
    chunk: list[str] = []
    held = 0
    for name in tensors:
        size = sizes.get(name, 0)
        if chunk and held + size > _LARGEST_RUN_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(name)
        held += size
    if chunk:
        yield chunk
