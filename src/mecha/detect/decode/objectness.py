"""Outputs (1, anchors, 5 + classes) of boxes, objectness and classes: what yolov5 and yolox exports have in common.

The score of a class is `objectness * class probability`. Neither is above 1, so an anchor whose objectness is below the
threshold cannot pass, and its classes are not looked at.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import Candidates, DecodeTarget, passing, require_output

BOX = 4
BEFORE_CLASSES = BOX + 1


class BoxesOf(Protocol):
    """How a family makes boxes of the exported numbers."""

    def __call__(self, values: NDArray[np.float32], anchors: NDArray[np.intp], count: int) -> NDArray[np.float32]:
        """Return boxes (N, 4) x1 y1 x2 y2 of the numbers (N, 4) of the anchors with these indices, of `count`."""
        ...

    def at(self, height: int, width: int) -> Self:
        """Return the same for an input of another size, pixels."""
        ...


class ExportedDecoder:
    """Reads the exported output; how its first four numbers make a box is the family's."""

    overlapping = True

    def __init__(self, family: str, target: DecodeTarget, boxes_of: BoxesOf) -> None:
        classes = BEFORE_CLASSES + target.class_count if target.class_count else "5 + classes"
        self._shape = (1, "anchors", classes)
        self._target = target
        self._family = family
        self._where = target.where
        self._boxes_of = boxes_of

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return what passes the threshold."""
        output = self._output(outputs)
        likely = np.flatnonzero(output[:, BOX] >= score_threshold)
        kept = output[likely]
        scores = kept[:, BOX:BEFORE_CLASSES] * kept[:, BEFORE_CLASSES:]
        rows, class_ids, values = passing(scores.T, score_threshold, every_class=every_class)
        return Candidates(self._boxes_of(kept[rows, :BOX], likely[rows], len(output)), values, class_ids)

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all anchors."""
        output = self._output(outputs)
        boxes = self._boxes_of(output[:, :BOX], np.arange(len(output)), len(output))
        return output[:, BOX:BEFORE_CLASSES] * output[:, BEFORE_CLASSES:], boxes

    def at(self, height: int, width: int) -> Self:
        """Return the decoder for another size; only the boxes depend on it."""
        target = replace(self._target, height=height, width=width)
        return type(self)(self._family, target, self._boxes_of.at(height, width))

    def _output(self, outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        require_output(outputs[0].shape, self._shape, family=self._family, where=self._where)
        output: NDArray[np.float32] = outputs[0][0]
        return output
