"""The yolox family: no anchor shapes, boxes as offsets of the cell, objectness and classes.

With (c, r) column and row of the cell and d the stride: `centre = d ((x, y) + (c, r))`, `size = d exp((w, h))`,
`score = objectness * class`, both after a sigmoid that exports hold already (Ge et al., "YOLOX: Exceeding YOLO Series
in 2021", section 2.1). The exported output (1, anchors, 5 + classes) holds x, y, w, h as the head gives them; its
cells are ordered by level, row and column.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import (
    Candidates,
    DecodePlan,
    DecodeTarget,
    concatenated,
    logit,
    passing,
    sigmoid,
)
from mecha.detect.decode.grid import cells
from mecha.detect.decode.objectness import BOX, ExportedDecoder
from mecha.detect.decode.probe import same_as_tail
from mecha.graph.heads import HeadTensor, YoloxLevel, find_yolox_head

if TYPE_CHECKING:
    from onnx import ModelProto

# A box of exp(20) cells covers any frame, and more would overflow on the way to pixels.
_LARGEST_SIZE = 20.0

_Level = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def plan(model: "ModelProto | None", target: DecodeTarget) -> DecodePlan:
    """Cut before the decode tail where what it does is known, else read the exported output."""
    exported = ExportedDecoder("yolox", target, _ExportedBoxes(target))
    whole = DecodePlan((), exported)
    if model is None or not target.class_count:
        return whole
    head = find_yolox_head(model, height=target.height, width=target.width, class_count=target.class_count)
    if head is None:
        return whole
    tensors = tuple(tensor for level in head for tensor in _tensors(level))
    decoder = HeadDecoder(target.height)
    if not same_as_tail(model, tensors, before_tail=decoder, exported=exported):
        return whole
    return DecodePlan(tuple(tensor.name for tensor in tensors), decoder)


def _tensors(level: YoloxLevel) -> tuple[HeadTensor, ...]:
    return level.boxes, level.objectness, level.classes


class _ExportedBoxes:
    """Boxes of exported numbers; the grid is laid out when the number of anchors is known, and kept."""

    def __init__(self, target: DecodeTarget) -> None:
        self._target = target
        self._cells = np.empty((0, 3), np.float32)

    def __call__(self, values: NDArray[np.float32], anchors: NDArray[np.intp], count: int) -> NDArray[np.float32]:
        if len(self._cells) != count:
            self._cells = cells(self._target, count, family="yolox")
        grid = self._cells[anchors]
        return _boxes(values, grid[:, :2], grid[:, 2:])

    def at(self, height: int, width: int) -> Self:
        """Return the same for another size, whose cells are other ones."""
        return type(self)(replace(self._target, height=height, width=width))


class HeadDecoder:
    """Reads the tensors before the decode tail, of each level: boxes (1, 4, H, W), objectness, classes (1, C, H, W)."""

    overlapping = True

    def __init__(self, input_height: int) -> None:
        self._input_height = input_height

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return what passes the threshold; only anchors whose objectness passes are decoded."""
        threshold = logit(score_threshold)
        found = []
        for boxes, objectness, classes in _levels(outputs):
            anchors = np.flatnonzero(objectness >= threshold)
            if not anchors.size:
                continue
            by_class = sigmoid(_flat(classes)[:, anchors]) * sigmoid(objectness.reshape(-1)[anchors])
            positions, class_ids, scores = passing(by_class, score_threshold, every_class=every_class)
            found.append(Candidates(self._boxes(boxes, anchors[positions]), scores, class_ids))
        return concatenated(found)

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all anchors, levels in order, row by row: the order of the exported output."""
        scores, found = [], []
        for boxes, objectness, classes in _levels(outputs):
            scores.append((sigmoid(_flat(classes)) * sigmoid(_flat(objectness))).T)
            found.append(self._boxes(boxes, np.arange(objectness.size)))
        return np.concatenate(scores), np.concatenate(found)

    def at(self, height: int, width: int) -> Self:
        """Return the decoder for another size: its height tells the strides."""
        del width
        return type(self)(height)

    def _boxes(self, level: NDArray[np.float32], anchors: NDArray[np.intp]) -> NDArray[np.float32]:
        height, width = level.shape[2:]
        grid = np.stack([anchors % width, anchors // width], axis=1).astype(np.float32)
        return _boxes(_flat(level)[:, anchors].T, grid, np.float32(self._input_height / height))


def _levels(outputs: Sequence[NDArray[np.float32]]) -> Iterator[_Level]:
    return zip(outputs[::3], outputs[1::3], outputs[2::3], strict=True)


def _flat(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (channels, cells), a view."""
    flat: NDArray[np.float32] = level[0].reshape(level.shape[1], -1)
    return flat


def _boxes(
    values: NDArray[np.float32], grid: NDArray[np.float32], stride: NDArray[np.float32] | np.float32
) -> NDArray[np.float32]:
    """Return (N, 4) x1 y1 x2 y2 in pixels of head outputs (N, 4) and cells (N, 2)."""
    centres = (values[:, :2] + grid) * stride
    halves = np.exp(np.minimum(values[:, 2:BOX], _LARGEST_SIZE)) * (stride / 2)
    found: NDArray[np.float32] = np.concatenate([centres - halves, centres + halves], axis=1)
    return found
