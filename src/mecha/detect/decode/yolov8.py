"""The yolov8 family (v8, 11, 12): anchor-free, each side of a box a distribution over cells.

For an anchor at column x and row y of a level with stride s, the centre is ((x + 0.5) s, (y + 0.5) s). A side's
distance, in cells, is the expectation over the softmax of its `reg_max` logits: `d = sum_i i * softmax(l)_i`. The box
is `centre - s (left, top), centre + s (right, bottom)`. The distribution is that of Li et al., "Generalized Focal
Loss", 2020, section 3.2. A class score is the sigmoid of its logit; there is no objectness.
"""

from collections.abc import Iterator, Sequence
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
    require_output,
    sigmoid,
)
from mecha.graph.cut import find_yolov8_head

if TYPE_CHECKING:
    from onnx import ModelProto

_BOX = 4


def plan(model: "ModelProto | None", target: DecodeTarget) -> DecodePlan:
    """Cut before the decode tail where that is possible, else read the exported output.

    Args:
        model: the graph; None when it cannot be read here.
        target: its height, with the height of a level's tensor, gives the level's stride.
    """
    head = find_yolov8_head(model) if model is not None else None
    if head is None:
        return DecodePlan((), ExportedDecoder(target))
    return DecodePlan((*head.boxes, *head.scores), HeadDecoder(len(head.boxes), head.reg_max, target.height))


class HeadDecoder:
    """Reads the tensors before the decode tail: boxes (1, 4 reg_max, H, W) of every level, then scores (1, C, H, W)."""

    overlapping = True

    def __init__(self, levels: int, reg_max: int, input_height: int) -> None:
        self._levels = levels
        self._reg_max = reg_max
        self._input_height = input_height

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return what passes the threshold, which is compared in logits; only these anchors are decoded."""
        threshold = logit(score_threshold)
        found = []
        for boxes, scores in self._pairs(outputs):
            by_class = scores[0].reshape(scores.shape[1], -1)
            anchors, class_ids, logits = passing(by_class, threshold, every_class=every_class)
            if anchors.size:
                found.append(Candidates(self._boxes(boxes, anchors), sigmoid(logits), class_ids))
        return concatenated(found)

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all anchors, levels in order, row by row: the order of the exported output."""
        scores, boxes = [], []
        for level_boxes, level_scores in self._pairs(outputs):
            by_class = level_scores[0].reshape(level_scores.shape[1], -1)
            scores.append(sigmoid(by_class.T))
            boxes.append(self._boxes(level_boxes, np.arange(by_class.shape[1])))
        return np.concatenate(scores), np.concatenate(boxes)

    def at(self, height: int, width: int) -> Self:
        """Return the decoder for another size: its height tells the strides."""
        del width
        return type(self)(self._levels, self._reg_max, height)

    def _pairs(
        self, outputs: Sequence[NDArray[np.float32]]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        return zip(outputs[: self._levels], outputs[self._levels :], strict=True)

    def _boxes(self, level: NDArray[np.float32], anchors: NDArray[np.intp]) -> NDArray[np.float32]:
        height, width = level.shape[2:]
        stride = np.float32(self._input_height / height)
        logits = level[0].reshape(4, self._reg_max, height * width)[:, :, anchors]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        cells = np.arange(self._reg_max, dtype=np.float32)
        left, top, right, bottom = np.einsum("sra,r->sa", weights, cells) / weights.sum(axis=1)
        x = anchors % width + np.float32(0.5)
        y = anchors // width + np.float32(0.5)
        boxes: NDArray[np.float32] = np.stack([x - left, y - top, x + right, y + bottom], axis=1) * stride
        return boxes.astype(np.float32)


class ExportedDecoder:
    """Reads the exported output (1, 4 + C, A): centre x, centre y, width, height in input pixels, then class scores."""

    overlapping = True

    def __init__(self, target: DecodeTarget) -> None:
        channels = _BOX + target.class_count if target.class_count else "4 + classes"
        self._shape = (1, channels, "anchors")
        self._where = target.where

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return what passes the threshold."""
        output = self._output(outputs)
        anchors, class_ids, scores = passing(output[_BOX:], score_threshold, every_class=every_class)
        return Candidates(corners(output[:_BOX, anchors].T), scores, class_ids)

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all anchors."""
        output = self._output(outputs)
        return np.ascontiguousarray(output[_BOX:].T), corners(output[:_BOX].T)

    def at(self, height: int, width: int) -> Self:
        """Return this decoder: boxes are in pixels already."""
        del height, width
        return self

    def _output(self, outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        require_output(outputs[0].shape, self._shape, family="yolov8", where=self._where)
        output: NDArray[np.float32] = outputs[0][0]
        return output
