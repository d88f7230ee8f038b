"""A small detector with the head and decode tail of the yolov8 family, whose weights are computed, not trained.

It finds squares of red (class 0) and green (class 1): a cell's class logit is -6, plus 12 times its red (green),
less 6 times each other channel. Levels have strides 8 and 16; a box reaches one cell from the centre to each side.
"""

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mecha.store.spec import InputSpec, ModelSpec, SourceSpec

Tail = Literal["right", "dead", "moved", "nan"]

REG_MAX = 8
NAMES = ("red", "green")
RED, GREEN = (0, 0, 255), (0, 255, 0)


def blob_spec(size: int = 64, *, dynamic: bool = False, name: str = "blobs") -> ModelSpec:
    return ModelSpec(
        schema=1,
        name=name,
        task="object-detection",
        family="yolov8",
        input=InputSpec(name="images", height=size, width=size, dynamic=dynamic, stride=16),
        preprocessing="yolo",
        classes=NAMES,
        source=SourceSpec(repo="a/b", filename="blobs.onnx", revision="0" * 40),
    )


def scene(*squares: tuple[int, int, int, tuple[int, int, int]], size: tuple[int, int] = (64, 64)) -> NDArray[np.uint8]:
    """A grey BGR frame of (height, width) with squares (left, top, side, colour)."""
    frame = np.full((*size, 3), 90, dtype=np.uint8)
    for left, top, side, colour in squares:
        frame[top : top + side, left : left + side] = colour
    return frame


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def const(self, value: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{op_type.lower()}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=f"{op_type}_{len(self.nodes)}", **attributes))
        return names

    def conv(self, source: str, weight: NDArray[Any], bias: Any = None, **attributes: Any) -> str:
        names = [source, self.const(weight), *([self.const(bias)] if bias is not None else [])]
        return self.add("Conv", *names, **attributes)[0]


def blob_detector(
    size: int = 64,
    *,
    dynamic: bool = False,
    tail: Tail = "right",
    highest_logit: float | None = None,
    class_bias: float = -6,
) -> bytes:
    """Return the ONNX bytes.

    Args:
        size: height and width in pixels.
        dynamic: other sizes and batches are taken too; anchors are computed from shapes, as exporters write it.
        tail: "dead" gives every score 0, as a quantized decode tail does; "moved" puts boxes 40 pixels to the right;
            "nan" gives NaN for every score.
        highest_logit: class logits end here, as a range calibrated on the wrong frames makes them.
        class_bias: of every class logit; -60 finds nothing, NaN gives NaN for every score.
    """
    graph = _Graph()
    mean = np.zeros((3, 3, 8, 8), np.float32)
    for channel in range(3):
        mean[channel, channel] = 1 / 64
    fine = graph.conv("images", mean, strides=[8, 8], kernel_shape=[8, 8])
    half = np.zeros((3, 3, 2, 2), np.float32)
    for channel in range(3):
        half[channel, channel] = 1 / 4
    coarse = graph.conv(fine, half, strides=[2, 2], kernel_shape=[2, 2])
    levels = [_head(graph, source, class_bias) for source in (fine, coarse)]
    if highest_logit is not None:
        top = graph.const(highest_logit)
        levels = [(boxes, graph.add("Min", scores, top)[0]) for boxes, scores in levels]
    output = _tail(graph, levels, tail)
    shape: list[int | str] = ["batch", 3, "height", "width"] if dynamic else [1, 3, size, size]
    anchors = sum((size // stride) ** 2 for stride in (8, 16))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "blobs",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
            [
                helper.make_tensor_value_info(
                    output, TensorProto.FLOAT, ["batch", 6, "anchors"] if dynamic else [1, 6, anchors]
                )
            ],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    metadata = {
        "names": repr(dict(enumerate(NAMES))),
        "imgsz": f"[{size}, {size}]",
        "stride": "16",
        "task": "detect",
    }
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _head(graph: _Graph, source: str, class_bias: float) -> tuple[str, str]:
    sides = np.full((4, REG_MAX), -5, np.float32)
    sides[:, 1] = 5
    rng = np.random.default_rng(3)
    boxes = graph.conv(
        source, rng.normal(0, 0.3, (4 * REG_MAX, 3, 1, 1)), sides.reshape(-1), kernel_shape=[1, 1], strides=[1, 1]
    )
    weights = np.array([[12, -6, -6], [-6, 12, -6]], np.float32).reshape(2, 3, 1, 1)
    scores = graph.conv(source, weights, [class_bias, class_bias], kernel_shape=[1, 1], strides=[1, 1])
    return boxes, scores


def _tail(graph: _Graph, levels: list[tuple[str, str]], kind: Tail) -> str:
    """The decode tail as exporters write it: concat, split, distribution, anchors, strides, sigmoid."""
    flat = []
    for boxes, scores in levels:
        both = graph.add("Concat", boxes, scores, axis=1)[0]
        flat.append(graph.add("Reshape", both, graph.const([1, 4 * REG_MAX + 2, -1], np.int64))[0])
    merged = graph.add("Concat", *flat, axis=2)[0]
    boxes, scores = graph.add("Split", merged, graph.const([4 * REG_MAX, 2], np.int64), outputs=2, axis=1)
    sides = graph.add("Reshape", boxes, graph.const([1, 4, REG_MAX, -1], np.int64))[0]
    sides = graph.add("Softmax", graph.add("Transpose", sides, perm=[0, 2, 1, 3])[0], axis=1)[0]
    expectation = graph.conv(sides, np.arange(REG_MAX, dtype=np.float32).reshape(1, REG_MAX, 1, 1), kernel_shape=[1, 1])
    distances = graph.add("Reshape", expectation, graph.const([1, 4, -1], np.int64))[0]
    near, far = graph.add("Split", distances, graph.const([2, 2], np.int64), outputs=2, axis=1)
    anchors = [_anchors(graph, boxes, stride) for (boxes, _), stride in zip(levels, (8, 16), strict=True)]
    centres, strides = (graph.add("Concat", *parts, axis=1)[0] for parts in zip(*anchors, strict=True))
    first = graph.add("Sub", centres, near)[0]
    last = graph.add("Add", centres, far)[0]
    middle = graph.add("Mul", graph.add("Add", first, last)[0], graph.const(0.5))[0]
    extent = graph.add("Sub", last, first)[0]
    pixels = graph.add("Mul", graph.add("Concat", middle, extent, axis=1)[0], strides)[0]
    confidence = graph.add("Sigmoid", scores)[0]
    if kind == "moved":
        pixels = graph.add("Add", pixels, graph.const([[[40.0], [0.0], [0.0], [0.0]]]))[0]
    elif kind != "right":
        confidence = graph.add("Mul", confidence, graph.const(0.0 if kind == "dead" else np.nan))[0]
    graph.add("Concat", pixels, confidence, axis=1)
    graph.nodes[-1].output[0] = "output0"
    return "output0"


def _anchors(graph: _Graph, level: str, stride: int) -> tuple[str, str]:
    """Centres in cells (2, H*W) and strides (1, H*W) of a level, from the shape of its tensor."""
    shape = graph.add("Shape", level)[0]
    axes = []
    for axis, form in ((3, [1, -1]), (2, [-1, 1])):
        count = graph.add("Gather", shape, graph.const(axis, np.int64))[0]
        cells = graph.add("Range", graph.const(0, np.int64), count, graph.const(1, np.int64))[0]
        middles = graph.add("Add", graph.add("Cast", cells, to=TensorProto.FLOAT)[0], graph.const(0.5))[0]
        axes.append(graph.add("Reshape", middles, graph.const(form, np.int64))[0])
    nothing = [graph.add("Mul", axis, graph.const(0.0))[0] for axis in axes]
    rows = []
    for own, other in ((axes[0], nothing[1]), (axes[1], nothing[0])):
        grid = graph.add("Add", own, other)[0]
        rows.append(graph.add("Reshape", grid, graph.const([1, -1], np.int64))[0])
    zero = graph.add("Mul", rows[0], graph.const(0.0))[0]
    return graph.add("Concat", *rows, axis=0)[0], graph.add("Add", zero, graph.const(float(stride)))[0]
