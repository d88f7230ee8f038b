"""The detr family (D-FINE, RT-DETR): a fixed number of queries, each with class logits and a box.

`logits` (1, Q, C) and `pred_boxes` (1, Q, 4), centre x, centre y, width, height as shares of the input from 0 to 1.
The score of a class is the sigmoid of its logit, there is no "no object" class and no suppression, because training
assigns one query to an object (Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", 2024; Peng et al.,
"D-FINE", 2024).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import (
    Candidates,
    DecodePlan,
    DecodeTarget,
    corners,
    logit,
    passing,
    require_output,
    sigmoid,
)

if TYPE_CHECKING:
    from onnx import ModelProto

_BOX = 4


def plan(model: "ModelProto | None", target: DecodeTarget) -> DecodePlan:  # noqa: ARG001 - it always runs whole
    """Read the two outputs."""
    return DecodePlan((), ExportedDecoder(target))


class ExportedDecoder:
    """Reads logits and boxes; which output is which is told by its width, the logits first where both are 4."""

    overlapping = False

    def __init__(self, target: DecodeTarget) -> None:
        self._target = target
        self._classes = target.class_count or "classes"
        self._where = target.where
        self._scale = np.array([target.width, target.height] * 2, np.float32)

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return what passes the threshold, which is compared in logits."""
        logits, boxes = self._outputs(outputs)
        queries, class_ids, values = passing(logits.T, logit(score_threshold), every_class=every_class)
        return Candidates(corners(boxes[queries] * self._scale), sigmoid(values), class_ids)

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all queries."""
        logits, boxes = self._outputs(outputs)
        return sigmoid(logits), corners(boxes * self._scale)

    def at(self, height: int, width: int) -> Self:
        """Return the decoder for another size: boxes are shares of it."""
        return type(self)(replace(self._target, height=height, width=width))

    def _outputs(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, boxes = outputs[0], outputs[-1]
        if logits.shape[-1:] == (_BOX,) and boxes.shape[-1:] != (_BOX,):
            logits, boxes = boxes, logits
        require_output(logits.shape, (1, "queries", self._classes), family="detr", where=self._where)
        require_output(boxes.shape, (1, logits.shape[1], _BOX), family="detr", where=self._where)
        return logits[0], boxes[0]
