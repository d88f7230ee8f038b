"""Compare the tensors of an FP32 model with those of the INT8 file made from it, a few at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mecha.detect.session import Session
from mecha.graph.cut import cut_at, find_tail
from mecha.graph.index import GraphIndex, attribute_of
from mecha.quantize.plan import PASSING_OPS, activation_of
from mecha.quantize.report.rows import Kind, TensorRow

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Values = NDArray[np.float32]

HISTOGRAM_BINS = 32
# What the tensors of one run may hold at a time, in either model; more tensors take more runs.
_LARGEST_RUN_BYTES = 48 * 2**20
# Enough for a histogram that is drawn a hundred pixels wide.
_SAMPLED_VALUES = 8192
_WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class _Pair:
    """A tensor of FP32 and where its values are in INT8."""

    node: "NodeProto"
    fp32: str
    int8: str
    kind: Kind
    stored: bool


def tensor_rows(
    fp32: "ModelProto", int8: "ModelProto", inputs: Sequence[Values], *, threads: int
) -> tuple[tuple[TensorRow, ...], tuple[str, ...]]:
    """Return a row for each tensor that both models have, worst first, and the names of those that are not finite.

    The values of an activation are those after its pair of QuantizeLinear and DequantizeLinear, with all the error that
    came before it. A file without such pairs is compared at the results of its Convs.

    Args:
        fp32: of one input size.
        int8: same input and outputs.
        inputs: input tensors; every model runs on each of them.
    """
    rows = list(_constant_rows(fp32, int8))
    skipped = []
    for chunk in _chunks(_pairs(fp32, int8), _sizes(fp32)):
        for pair, sums in zip(chunk, _compared(fp32, int8, chunk, inputs, threads), strict=True):
            if sums.finite:
                rows.append(sums.row(pair))
            else:
                skipped.append(pair.fp32)
    return tuple(sorted(rows, key=lambda row: (-row.snr, row.cosine))), tuple(skipped)


def _pairs(fp32: "ModelProto", int8: "ModelProto") -> Iterator[_Pair]:
    """Yield what can be compared, in graph order.

    What merely hands values on has the error of what it reads. What lies between a Conv and its activation is left out:
    a range that cuts what a SiLU makes nothing of looks like an error there, and is none after it.
    """
    index, made = GraphIndex.of(fp32), GraphIndex.of(int8).producers
    stored = _stored_tensors(int8, index)
    tail = find_tail(fp32).nodes
    inner, results = _activated(fp32, index)
    for node in fp32.graph.node:
        name = node.output[0]
        is_output = name in index.outputs
        if name in index.constants or name in inner or (node.name in tail and not is_output):
            continue
        kind: Kind = "output" if is_output else "activation"
        if name in stored and (is_output or node.op_type not in PASSING_OPS):
            yield _Pair(node, name, stored[name], kind, stored=True)
        elif name in made and (is_output or name in results):
            yield _Pair(node, name, name, kind, stored=False)


def _activated(model: "ModelProto", index: GraphIndex) -> tuple[set[str], set[str]]:
    """Return the tensors between Convs and their activations, and those that Convs with their activations make."""
    inner: set[str] = set()
    results: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _WEIGHTED_OPS:
            *before, last = (node, *activation_of(index, node))
            inner.update(name for part in before for name in part.output)
            results.update(last.output)
    return inner, results


def _stored_tensors(int8: "ModelProto", fp32: GraphIndex) -> dict[str, str]:
    """Return the float tensor after the pair, by the name of the tensor in FP32."""
    makers = {name: node for node in int8.graph.node for name in node.output}
    found: dict[str, str] = {}
    for node in int8.graph.node:
        quantize = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue
        source = quantize.input[0]
        before = makers.get(source)
        if node.output[0] in fp32.producers:
            source = node.output[0]
        elif source not in fp32.producers and before is not None and before.op_type == "Clip":
            source = before.input[0]
        if source in fp32.producers:
            found.setdefault(source, node.output[0])
    return found


def _sizes(model: "ModelProto") -> dict[str, int]:
    """Bytes of each float tensor."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model)
    return {
        value.name: 4 * int(np.prod([dim.dim_value for dim in value.type.tensor_type.shape.dim], dtype=np.int64))
        for value in (*shaped.graph.value_info, *shaped.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }


def _chunks(pairs: Iterator[_Pair], sizes: dict[str, int]) -> Iterator[list[_Pair]]:
    chunk: list[_Pair] = []
    held = 0
    for pair in pairs:
        if pair.fp32 not in sizes:
            continue
        if chunk and held + sizes[pair.fp32] > _LARGEST_RUN_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(pair)
        held += sizes[pair.fp32]
    if chunk:
        yield chunk


def _compared(
    fp32: "ModelProto", int8: "ModelProto", chunk: Sequence[_Pair], inputs: Sequence[Values], threads: int
) -> list["_Sums"]:
    reference = Session(
        cut_at(fp32, [pair.fp32 for pair in chunk]).SerializeToString(), threads=threads, where="FP32 model"
    )
    candidate = Session(
        cut_at(int8, [pair.int8 for pair in chunk]).SerializeToString(), threads=threads, where="INT8 model"
    )
    sums = [_Sums() for _ in chunk]
    for tensor in inputs:
        for one, expected, got in zip(sums, reference.run(tensor), candidate.run(tensor), strict=True):
            one.add(expected, got)
    return sums


class _Sums:
    """Sums over the frames, from which the figures of a tensor follow."""

    def __init__(self) -> None:
        self._count = 0
        self._noise = self._fp32_power = self._int8_power = self._product = 0.0
        self._fp32 = self._int8 = (np.inf, -np.inf)
        self._samples: list[Values] = []

    def add(self, fp32: Values, int8: Values) -> None:
        """Add the values of one frame."""
        ours, theirs = fp32.reshape(-1), int8.reshape(-1)
        difference = theirs - ours
        self._count += ours.size
        self._noise += float(np.dot(difference, difference))
        self._fp32_power += float(np.dot(ours, ours))
        self._int8_power += float(np.dot(theirs, theirs))
        self._product += float(np.dot(ours, theirs))
        self._fp32 = _wider(self._fp32, ours)
        self._int8 = _wider(self._int8, theirs)
        self._samples.append(ours[:: -(-ours.size // _SAMPLED_VALUES)].copy())

    @property
    def finite(self) -> bool:
        """There was no NaN and no infinity, and something at all."""
        return self._count > 0 and bool(np.isfinite([self._noise, self._fp32_power, self._int8_power]).all())

    def row(self, pair: _Pair) -> TensorRow:
        """Return the figures."""
        lengths = float(np.sqrt(self._fp32_power) * np.sqrt(self._int8_power))
        return TensorRow(
            node=pair.node.name,
            op_type=pair.node.op_type,
            tensor=pair.fp32,
            kind=pair.kind,
            stored=pair.stored,
            snr=self._noise / max(self._fp32_power, 1e-12),
            mse=self._noise / self._count,
            # Two tensors of zeros are the same; rounding takes equal ones a hair past 1.
            cosine=min(self._product / lengths, 1.0) if lengths else float(self._fp32_power == self._int8_power),
            int8_range=self._int8,
            fp32_range=self._fp32,
            histogram=_histogram(np.concatenate(self._samples), self._fp32),
        )


def _wider(bounds: tuple[float, float], values: Values) -> tuple[float, float]:
    return min(bounds[0], float(values.min())), max(bounds[1], float(values.max()))


def _histogram(values: Values, bounds: tuple[float, float]) -> tuple[int, ...]:
    if bounds[0] == bounds[1]:
        return (values.size,)
    return tuple(int(count) for count in np.histogram(values, HISTOGRAM_BINS, bounds)[0])


def _constant_rows(fp32: "ModelProto", int8: "ModelProto") -> Iterator[TensorRow]:
    """Yield a row for each weight that the INT8 file stores in integers."""
    index, theirs = GraphIndex.of(fp32), GraphIndex.of(int8)
    nodes = {node.name: node for node in int8.graph.node}
    for node in fp32.graph.node:
        if node.op_type not in _WEIGHTED_OPS or len(node.input) < 2:  # noqa: PLR2004 - input and weights
            continue
        expected = index.array(node.input[1])
        got = _integer_weights(theirs, nodes.get(node.name), node.input[1])
        if expected is None or got is None or got.shape != expected.shape:
            continue
        sums = _Sums()
        sums.add(expected.astype(np.float32), got)
        yield sums.row(_Pair(node, node.input[1], node.input[1], "constant", stored=True))


def _integer_weights(index: GraphIndex, node: "NodeProto | None", name: str) -> Values | None:
    """Return the weights that a node of the INT8 file computes with, None where they are not stored in integers."""
    reader = index.producers.get(node.input[1]) if node is not None and len(node.input) > 1 else None
    if reader is not None and reader.op_type == "DequantizeLinear":
        parts = [index.array(part) for part in reader.input]
        axis = attribute_of(reader, "axis")
        return _dequantized(parts, axis if isinstance(axis, int) else 1)
    # onnxruntime's converter for dynamic INT8 keeps them under names of its own.
    stored = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
    if all(part in index.initializers for part in stored):
        return _dequantized([index.array(part) for part in stored], 0)
    return None


def _dequantized(parts: Sequence[NDArray[Any] | None], axis: int) -> Values | None:
    values, scale = parts[0], parts[1]
    zero_point = parts[2] if len(parts) > 2 else np.zeros(1, np.int32)  # noqa: PLR2004
    if values is None or scale is None or zero_point is None:
        return None
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    offset = zero_point.astype(np.float32).reshape(shape if zero_point.size > 1 else [1] * values.ndim)
    dequantized: Values = (values.astype(np.float32) - offset) * scale.astype(np.float32).reshape(shape)
    return dequantized
