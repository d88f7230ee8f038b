"""Which family a detector belongs to, told by the shape of its outputs and the structure of its decode tail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mecha.graph.cut import DecodeTail, find_tail, find_yolov8_head
from mecha.graph.index import CONV_WEIGHTS, GraphIndex

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FAMILIES = ("yolov8", "yolov5", "yolox", "end_to_end", "detr", "nanodet")

Shape = Sequence[int | str]

_RANK = 3
_BOX = 4
_SELECTING = frozenset({"TopK", "NonMaxSuppression"})
# Grids, strides and anchors enter a decoded output through these; a raw head only sorts its values.
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Exp"})


@dataclass(frozen=True, slots=True)
class Family:
    """A family by name (None: not one of FAMILIES) and the number of classes, where the outputs tell it."""

    name: str | None
    class_count: int | None = None


_NO_FAMILY = Family(None)


def family_of(
    model: "ModelProto", outputs: Sequence[Shape], *, names: tuple[str, ...] | None, task: str | None
) -> Family:
    """Tell the family.

    Args:
        model: the model.
        outputs: its output shapes.
        names: class names, where the metadata holds them: they settle which axis holds the classes.
        task: what the metadata says the model does; anything but "detect" is no detector.
    """
    if task is not None and task not in {"detect", "object-detection"}:
        return _NO_FAMILY
    if len(outputs) == 1 and len(outputs[0]) == _RANK:
        return _single(model, outputs[0], names)
    return _detr(outputs) or _nanodet_pairs(outputs) or _NO_FAMILY


def _single(model: "ModelProto", shape: Shape, names: tuple[str, ...] | None) -> Family:
    index = GraphIndex.of(model)
    tail = find_tail(model)
    values = _value_nodes(index, tail)
    # Exporters name the last axis of a dynamic export after that of other heads, although it always holds six values.
    six = shape[2] == _BOX + 2 or isinstance(shape[2], str)
    if six and any(node.op_type in _SELECTING for node in values):
        return Family("end_to_end", len(names) if names else None)
    head = find_yolov8_head(model)
    if head is not None and (isinstance(shape[1], str) or shape[1] == _BOX + head.class_count):
        return Family("yolov8", head.class_count)
    if _channels_first(shape, names):
        return Family("yolov8", int(shape[1]) - _BOX)
    if not isinstance(shape[2], int) or shape[2] <= _BOX + 1 or not tail.boundary:
        return _NO_FAMILY
    return _channels_last(model, index, tail, values, shape[2])


def _channels_first(shape: Shape, names: tuple[str, ...] | None) -> bool:
    """Whether (1, 4 + classes, anchors) fits: by the class names, else because anchors outnumber channels."""
    channels, anchors = shape[1], shape[2]
    if not isinstance(channels, int) or channels <= _BOX:
        return False
    if names:
        return channels == _BOX + len(names)
    return not isinstance(anchors, int) or anchors > channels


def _channels_last(
    model: "ModelProto", index: GraphIndex, tail: DecodeTail, values: "list[NodeProto]", channels: int
) -> Family:
    """Tell (1, anchors, C) by: decoded boxes (yolov5), raw boxes with objectness (yolox), distributions (nanodet)."""
    convs = {node.name: node for node in model.graph.node if node.op_type in CONV_WEIGHTS}
    widths = {(index.weight_dims(convs[name]) or (0,))[0] for name in tail.last_convs}
    classes = channels - _BOX - 1
    # One conv a level for all anchors of a cell (v5, v7), or one for boxes and one for classes (v6, YOLOX).
    shared, separate = all(width % channels == 0 for width in widths), {_BOX, classes} <= widths
    decoded = any(node.op_type in _ARITHMETIC for node in values)
    if decoded and (shared or separate):
        return Family("yolov5", classes)
    if separate and 1 in widths:
        return Family("yolox", classes)
    classes_by_sigmoid = None if decoded else _sigmoid_channels(index, values)
    if classes_by_sigmoid is not None and channels > classes_by_sigmoid and (channels - classes_by_sigmoid) % _BOX == 0:
        return Family("nanodet", classes_by_sigmoid)
    return _NO_FAMILY


def _value_nodes(index: GraphIndex, tail: DecodeTail) -> "list[NodeProto]":
    """The nodes of the tail through which the boundary's values flow: what only computes sizes is left out."""
    found: dict[str, NodeProto] = {}
    stack = list(tail.boundary)
    while stack:
        for node in index.consumers.get(stack.pop(), ()):
            if node.name in tail.nodes and node.name not in found and node.op_type != "Shape":
                found[node.name] = node
                stack.extend(node.output)
    return list(found.values())


def _sigmoid_channels(index: GraphIndex, values: "list[NodeProto]") -> int | None:
    """How many channels the tail turns into probabilities: the split in front of a Sigmoid says it."""
    for node in values:
        source = index.producers.get(node.input[0]) if node.op_type == "Sigmoid" else None
        if source is None:
            continue
        if source.op_type == "Split":
            sizes = index.array(source.input[1]) if len(source.input) > 1 else None
            listed = [int(size) for size in sizes.tolist()] if sizes is not None else _split_attribute(source)
            position = list(source.output).index(node.input[0])
            if position < len(listed):
                return listed[position]
        if source.op_type == "Slice" and len(source.input) > 2:  # noqa: PLR2004
            start, end = (index.array(name) for name in source.input[1:3])
            if start is not None and end is not None:
                return int(end.reshape(-1)[0]) - int(start.reshape(-1)[0])
        dims = index.weight_dims(source)
        if dims is not None:
            return dims[0]
    return None


def _split_attribute(node: "NodeProto") -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == "split"), [])


def _detr(outputs: Sequence[Shape]) -> Family | None:
    """(1, queries, classes) logits beside (1, queries, 4) boxes."""
    if len(outputs) != 2 or any(len(shape) != _RANK for shape in outputs):  # noqa: PLR2004
        return None
    boxes = [shape for shape in outputs if shape[2] == _BOX]
    logits = [shape for shape in outputs if shape[2] != _BOX]
    if len(boxes) != 1:
        return None
    counts = boxes[0][1], logits[0][1]
    if counts[0] != counts[1] and all(isinstance(count, int) for count in counts):
        return None
    return Family("detr", int(logits[0][2]) if isinstance(logits[0][2], int) else None)


def _nanodet_pairs(outputs: Sequence[Shape]) -> Family | None:
    """Older exports: an output (..., cells, classes) for each level, then one (..., cells, 4 * bins) for each."""
    if len(outputs) < 4 or len(outputs) % 2 or any(len(shape) not in {2, _RANK} for shape in outputs):  # noqa: PLR2004
        return None
    scores, boxes = outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]
    classes, bins = {shape[-1] for shape in scores}, {shape[-1] for shape in boxes}
    paired = [shape[-2] for shape in scores] == [shape[-2] for shape in boxes]
    if not paired or len(classes) != 1 or len(bins) != 1:
        return None
    class_count, width = classes.pop(), bins.pop()
    if not isinstance(class_count, int) or not isinstance(width, int) or width % _BOX or width < 2 * _BOX:
        return None
    return Family("nanodet", class_count)
