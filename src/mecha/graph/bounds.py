"""How much a file may make of itself when it is parsed: a few bytes of ONNX can stand for a large object in memory."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mecha.errors import IntegrityError, UnsupportedModelError

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

MOST_PARTS = 1_000_000
"""Nodes, tensors, attributes, names and numbers outside of tensors; a parsed one takes some 100 bytes. The largest
detectors have some 50 000."""

# Too small to do harm, whatever it holds.
_HARMLESS_BYTES = 1 << 20
# By kind of message, its fields that are messages themselves: model, graph, node, attribute, tensor, and the rest.
_HELD: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "plain", 14: "plain", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "plain", 15: "sparse", 16: "plain"},
    "node": {5: "attribute", 9: "plain", 10: "plain"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        14: "value",
        15: "value",
        22: "sparse",
        23: "sparse",
    },
    "tensor": {3: "plain", 13: "plain", 16: "plain"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph", 3: "plain", 4: "plain"},
    "function": {7: "node", 9: "plain", 11: "attribute", 12: "value", 14: "plain"},
    "value": {1: "value", 2: "value", 4: "value", 5: "value", 8: "value", 9: "value"},
    "plain": {},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WORST_DEPTH = 128


def check_parts(data: bytes, *, where: str) -> None:
    """Refuse a file that is made of far more parts than any model, before it is parsed.

    Raises:
        UnsupportedModelError: it is.
    """
    if len(data) <= _HARMLESS_BYTES:
        return
    for count, _ in enumerate(_parts(data), start=1):
        if count > MOST_PARTS:
            raise UnsupportedModelError(
                f"{where}: got a model of more than {MOST_PARTS} parts in {len(data)} bytes; expected at most so many "
                "nodes, tensors and attributes",
                hint="No detector has so many: the file would fill the memory when it is read.",
            )


def _parts(data: bytes) -> Iterator[int]:
    """Yield where each field of a model begins; ends where the bytes make no sense: the parser refuses those."""
    stack = [(0, len(data), "model")]
    while stack:
        at, end, kind = stack.pop()
        held = _HELD[kind]
        while at < end:
            yield at
            try:
                tag, at = _varint(data, at)
                size, start = _extent(data, at, tag & 7)
            except (IndexError, ValueError):
                return
            at = start + size
            if at > end:
                return
            inner = held.get(tag >> 3) if tag & 7 == _BYTES else None
            if inner is not None and len(stack) < _WORST_DEPTH:
                stack.append((at, end, kind))
                at, end, kind, held = start, at, inner, _HELD[inner]


def _extent(data: bytes, at: int, wire: int) -> tuple[int, int]:
    """Return how many bytes a field's content has, and where it starts."""
    if wire == _BYTES:
        return _varint(data, at)
    if wire == _VARINT:
        return 0, _varint(data, at)[1]
    if wire in (_FIXED32, _FIXED64):
        return (4 if wire == _FIXED32 else 8), at
    raise ValueError(wire)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last one
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 - more than 64 bits
            raise ValueError(at)


def check_tensors(graph: "GraphProto", *, where: str) -> None:
    """Refuse a graph with a tensor that does not hold as many values as its dimensions say: reading it would fail.

    Raises:
        IntegrityError: it has one.
    """
    for tensor in tensors_of(graph):
        fault = _fault(tensor)
        if fault is not None:
            raise IntegrityError(
                f"{where}: tensor {tensor.name or '(without a name)'}: {fault}; the file is damaged",
                hint="Fetch the file again, or export the model again.",
            )


def tensors_of(graph: "GraphProto") -> "Iterator[TensorProto]":
    """Yield a graph's tensors, those of its nodes' attributes and subgraphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from tensors_of(inner)


def _fault(tensor: "TensorProto") -> str | None:
    import onnx

    shape = list(tensor.dims)
    if any(size < 0 for size in shape):
        return f"got the shape {shape}; expected sizes of 0 or more"
    if tensor.data_location == tensor.EXTERNAL:
        return None
    count = math.prod(shape)
    if tensor.data_type not in onnx.TensorProto.DataType.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        return f"got the type {tensor.data_type}; expected one that ONNX knows"
    if not tensor.HasField("raw_data"):
        # Of the rarer types several share a number, so they are not counted.
        counts: dict[int, int] = {
            onnx.TensorProto.FLOAT: len(tensor.float_data),
            onnx.TensorProto.INT32: len(tensor.int32_data),
            onnx.TensorProto.INT64: len(tensor.int64_data),
            onnx.TensorProto.DOUBLE: len(tensor.double_data),
            onnx.TensorProto.STRING: len(tensor.string_data),
        }
        held = counts.get(tensor.data_type, count)
        return None if held == count else f"got {held} values; expected {count} for the shape {shape}"
    if tensor.data_type == onnx.TensorProto.STRING:
        return "got bytes; expected strings"
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    bits = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2, "FLOAT4E2M1": 4}.get(name)
    if bits is None:
        bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    needed = (count * bits + 7) // 8
    return (
        None if len(tensor.raw_data) == needed else f"got {len(tensor.raw_data)} bytes; expected {needed} for {shape}"
    )
