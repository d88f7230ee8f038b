"""The tensors that enter the decode tails of YOLOv5 and YOLOX, told by the number of their channels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mecha.graph.cut import DecodeTail, find_tail
from mecha.graph.index import CONV_WEIGHTS, QUANTIZING_OPS, GraphIndex

if TYPE_CHECKING:
    from onnx import ModelProto

_BOX = 4
_PARTS = 3


@dataclass(frozen=True, slots=True)
class HeadTensor:
    """A tensor that enters the tail, (1, channels, height, width)."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The whole shape, of one image."""
        return 1, self.channels, self.height, self.width


@dataclass(frozen=True, slots=True)
class YoloxLevel:
    """One level of a YOLOX head: box offsets (4 channels), objectness (1) and classes."""

    boxes: HeadTensor
    objectness: HeadTensor
    classes: HeadTensor


def find_yolov5_head(
    model: "ModelProto", *, height: int, width: int, class_count: int
) -> tuple[HeadTensor, ...] | None:
    """Return the tensor of each level, in the order of the output; None for any other head.

    A level holds, for each of its anchor shapes, x, y, width, height, objectness and the classes.

    Args:
        height: of the input, pixels; width likewise.
        class_count: of the model.
    """
    tensors = _head_tensors(model, height=height, width=width)
    if not tensors or any(tensor.channels % (_BOX + 1 + class_count) for tensor in tensors):
        return None
    return tensors


def find_yolox_head(model: "ModelProto", *, height: int, width: int, class_count: int) -> tuple[YoloxLevel, ...] | None:
    """Return the three tensors of each level, in the order of the output; None for any other head.

    Args:
        height: of the input, pixels; width likewise.
        class_count: of the model.
    """
    tensors = _head_tensors(model, height=height, width=width)
    if not tensors or len(tensors) % _PARTS:
        return None
    levels = []
    for start in range(0, len(tensors), _PARTS):
        level = YoloxLevel(*tensors[start : start + _PARTS])
        parts = (level.boxes, level.objectness, level.classes)
        if [part.channels for part in parts] != [_BOX, 1, class_count] or len({part.shape[2:] for part in parts}) != 1:
            return None
        levels.append(level)
    return tuple(levels)


def _head_tensors(model: "ModelProto", *, height: int, width: int) -> tuple[HeadTensor, ...] | None:
    """Return what enters the tail of a model with one output; None where sizes are unknown or the tail is quantized."""
    index = GraphIndex.of(model)
    tail = find_tail(model)
    if len(index.outputs) != 1 or _quantized(model, tail):
        return None
    convs = {node.name: node for node in model.graph.node if node.op_type in CONV_WEIGHTS}
    tensors = []
    for name, conv in zip(tail.boundary, tail.last_convs, strict=True):
        factor, dims = index.downsampling(name), index.weight_dims(convs[conv])
        if factor is None or dims is None or (height / factor).denominator != 1 or (width / factor).denominator != 1:
            return None
        tensors.append(HeadTensor(name, dims[0], int(height / factor), int(width / factor)))
    return tuple(tensors)


def _quantized(model: "ModelProto", tail: DecodeTail) -> bool:
    return any(node.name in tail.nodes and node.op_type in QUANTIZING_OPS for node in model.graph.node)
