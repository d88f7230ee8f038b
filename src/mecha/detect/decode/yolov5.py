"""The yolov5 family (v5, v7, and v6 or YOLOX exports that decode themselves): anchor shapes, objectness, classes.

With s the sigmoid, (c, r) column and row of the cell, d the stride and (aw, ah) the anchor shape in pixels: `centre =
d (2 s(x) - 0.5 + (c, r))`, `size = (2 s(w))^2 (aw, ah)`, `score = s(objectness) s(class)`. The formula is that of
Ultralytics YOLOv5's detection head (the architecture summary in that project's documentation, section "Eliminate Grid
Sensitivity"). The exported output (1, anchors, 5 + classes) holds centre, size, objectness and classes, decoded.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import (
    Candidates,
    DecodePlan,
    DecodeTarget,
    concatenated,
    corners,
    logit,
    passing,
    sigmoid,
)
from mecha.detect.decode.objectness import BEFORE_CLASSES, BOX, ExportedDecoder
from mecha.detect.decode.probe import same_as_tail
from mecha.graph.heads import HeadTensor, find_yolov5_head
from mecha.graph.probe import run_tail

if TYPE_CHECKING:
    from onnx import ModelProto


def plan(model: "ModelProto | None", target: DecodeTarget) -> DecodePlan:
    """Cut before the decode tail where what it does is known, else read the exported output."""
    exported = ExportedDecoder("yolov5", target, _ExportedBoxes())
    whole = DecodePlan((), exported)
    if model is None or not target.class_count:
        return whole
    head = find_yolov5_head(model, height=target.height, width=target.width, class_count=target.class_count)
    if head is None:
        return whole
    anchors = _anchor_shapes(model, head, BEFORE_CLASSES + target.class_count)
    if anchors is None:
        return whole
    decoder = HeadDecoder(anchors, target.height)
    if not same_as_tail(model, head, before_tail=decoder, exported=exported):
        return whole
    return DecodePlan(tuple(tensor.name for tensor in head), decoder)


def _anchor_shapes(
    model: "ModelProto", head: tuple[HeadTensor, ...], channels: int
) -> tuple[NDArray[np.float32], ...] | None:
    """Read the anchor shapes (K, 2) of each level, in pixels: zeros decode to a box of just that size."""
    outputs = run_tail(model, {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in head})
    shapes = [(tensor.channels // channels, tensor.height * tensor.width) for tensor in head]
    if outputs is None or outputs[0].shape != (1, sum(count * cells for count, cells in shapes), channels):
        return None
    found, start = [], 0
    for count, cells in shapes:
        level = outputs[0][0, start : start + count * cells].reshape(count, cells, channels)
        found.append(level[:, 0, 2:BOX].copy())
        start += count * cells
    return tuple(found)


class _ExportedBoxes:
    """Boxes of exported numbers, which are decoded already."""

    def __call__(self, values: NDArray[np.float32], anchors: NDArray[np.intp], count: int) -> NDArray[np.float32]:
        del anchors, count  # no cell is needed
        return corners(values)

    def at(self, height: int, width: int) -> Self:
        """Return itself: boxes are in pixels already."""
        del height, width
        return self


class HeadDecoder:
    """Reads the tensors before the decode tail: (1, K (5 + C), H, W) of every level, K anchor shapes a cell."""

    overlapping = True

    def __init__(self, anchors: Sequence[NDArray[np.float32]], input_height: int) -> None:
        self._anchors = tuple(anchors)
        self._input_height = input_height

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return what passes the threshold; only anchors whose objectness passes are decoded."""
        threshold = logit(score_threshold)
        found = []
        for level, anchors in zip(outputs, self._anchors, strict=True):
            values = _by_shape(level, len(anchors))
            shapes, cells = np.nonzero(values[:, BOX] >= threshold)
            if not cells.size:
                continue
            kept = sigmoid(values[shapes, :, cells])
            scores = kept[:, BOX:BEFORE_CLASSES] * kept[:, BEFORE_CLASSES:]
            rows, class_ids, best = passing(scores.T, score_threshold, every_class=every_class)
            boxes = self._boxes(kept[rows, :BOX], anchors[shapes[rows]], cells[rows], level)
            found.append(Candidates(boxes, best, class_ids))
        return concatenated(found)

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all anchors: by level, anchor shape, row and column, as the exported output."""
        scores, boxes = [], []
        for level, anchors in zip(outputs, self._anchors, strict=True):
            values = _by_shape(level, len(anchors))
            shapes, cells = np.divmod(np.arange(len(anchors) * values.shape[2]), values.shape[2])
            kept = sigmoid(values.transpose(0, 2, 1).reshape(len(cells), -1))
            scores.append(kept[:, BOX:BEFORE_CLASSES] * kept[:, BEFORE_CLASSES:])
            boxes.append(self._boxes(kept[:, :BOX], anchors[shapes], cells, level))
        return np.concatenate(scores), np.concatenate(boxes)

    def at(self, height: int, width: int) -> Self:
        """Return the decoder for another size: its height tells the strides, anchor shapes are in pixels."""
        del width
        return type(self)(self._anchors, height)

    def _boxes(
        self,
        values: NDArray[np.float32],
        anchors: NDArray[np.float32],
        cells: NDArray[np.intp],
        level: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return (N, 4) x1 y1 x2 y2 of sigmoids (N, 4), anchor shapes (N, 2) and cells (N,) of a level."""
        height, width = level.shape[2:]
        stride = np.float32(self._input_height / height)
        grid = np.stack([cells % width, cells // width], axis=1).astype(np.float32)
        centres = (2 * values[:, :2] - np.float32(0.5) + grid) * stride
        sizes = np.square(2 * values[:, 2:]) * anchors
        return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def _by_shape(level: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return (K, 5 + C, cells), a view."""
    values: NDArray[np.float32] = level[0].reshape(count, level.shape[1] // count, -1)
    return values
