"""The end_to_end family (v10, 26): the graph itself picks its boxes, one an object.

The output (1, N, 6) holds x1, y1, x2, y2 in input pixels, the score and the class, as it is to be used: one-to-one
assignment in training takes the place of suppression (Wang et al., "YOLOv10: Real-Time End-to-End Object Detection",
2024, section 3.1). There is one class a box, so `every_class` changes nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import Candidates, DecodePlan, DecodeTarget, require_output

if TYPE_CHECKING:
    from onnx import ModelProto

_SCORE, _CLASS = 4, 5


def plan(model: "ModelProto | None", target: DecodeTarget) -> DecodePlan:  # noqa: ARG001 - it always runs whole
    """Read the exported output: the choice of boxes belongs to the graph."""
    return DecodePlan((), ExportedDecoder(target))


class ExportedDecoder:
    """Reads the exported output; a row has no fixed place, as rows are sorted by score."""

    overlapping = False

    def __init__(self, target: DecodeTarget) -> None:
        self._class_count = max(target.class_count, 1)
        self._where = target.where

    def candidates(
        self,
        outputs: Sequence[NDArray[np.float32]],
        score_threshold: float,
        *,
        every_class: bool = False,  # noqa: ARG002 - there is one class a box
    ) -> Candidates:
        """Return the rows that pass the threshold."""
        output = self._output(outputs)
        kept = output[output[:, _SCORE] >= score_threshold]
        return Candidates(
            boxes_xyxy=kept[:, :_SCORE].astype(np.float32),
            scores=kept[:, _SCORE].astype(np.float32),
            class_ids=kept[:, _CLASS].astype(np.int32),
        )

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all rows; a row scores 0 for every class but its own."""
        output = self._output(outputs)
        scores = np.zeros((len(output), self._class_count), np.float32)
        # A broken INT8 file may name classes that are not there; the gate must be able to look at it.
        classes = np.clip(np.nan_to_num(output[:, _CLASS]), 0, self._class_count - 1).astype(np.intp)
        scores[np.arange(len(output)), classes] = output[:, _SCORE]
        return scores, output[:, :_SCORE].astype(np.float32)

    def at(self, height: int, width: int) -> Self:
        """Return this decoder: boxes are in pixels already."""
        del height, width
        return self

    def _output(self, outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        require_output(outputs[0].shape, (1, "boxes", _CLASS + 1), family="end_to_end", where=self._where)
        output: NDArray[np.float32] = outputs[0][0]
        return output
