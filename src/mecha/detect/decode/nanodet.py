"""The nanodet family: class probabilities and, for each side of the box, a distribution over distances.

Read is the export of NanoDet-Plus: one output (1, N, C + 4 (reg_max + 1)), sigmoid applied to the classes, cells
ordered by level (strides 8, 16, 32 and 64), row and column. A side's distance in cells is the expectation of its
distribution, `d = sum_i i softmax(l)_i` over i = 0 .. reg_max (Li et al., "Generalized Focal Loss", 2020, section
3.2). The cell in column c and row r has its point at `(c s, r s)`, without half a cell: NanoDet-Plus trains so. The
box is `point - s (left, top), point + s (right, bottom)`.

Older exports have an output (1, cells, C) for each level and then one (1, cells, 4 (reg_max + 1)) for each. They are
read the same way, but for the point: those models train with `((c + 0.5) s, (r + 0.5) s)`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import Candidates, DecodePlan, DecodeTarget, passing, unreadable
from mecha.detect.decode.grid import cells
from mecha.errors import UnsupportedModelError

if TYPE_CHECKING:
    from onnx import ModelProto

_SIDES = 4
_LEAST_BINS = 2
_HALF_CELL = np.float32(0.5)


def plan(model: "ModelProto | None", target: DecodeTarget) -> DecodePlan:  # noqa: ARG001 - it always runs whole
    """Read the exported output.

    Raises:
        UnsupportedModelError: the number of classes is not known, which tells classes from distributions.
    """
    if not target.class_count:
        raise UnsupportedModelError(
            f"{target.where}: got no class names; expected them, because they tell how the outputs of the family "
            "nanodet are divided",
            hint="Name the classes in the catalog entry: labels = [...].",
        )
    return DecodePlan((), ExportedDecoder(target))


class ExportedDecoder:
    """Reads the exported output."""

    overlapping = True

    def __init__(self, target: DecodeTarget) -> None:
        self._target = target
        self._cells = np.empty((0, 3), np.float32)

    def candidates(
        self, outputs: Sequence[NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
    ) -> Candidates:
        """Return what passes the threshold; only these distributions are computed."""
        output = self._output(outputs)
        classes = output[:, : self._target.class_count]
        anchors, class_ids, scores = passing(classes.T, score_threshold, every_class=every_class)
        return Candidates(self._boxes(output, anchors), scores, class_ids)

    def raw(self, outputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and boxes of all cells."""
        output = self._output(outputs)
        return output[:, : self._target.class_count].copy(), self._boxes(output, np.arange(len(output)))

    def at(self, height: int, width: int) -> Self:
        """Return the decoder for another size, whose cells are other ones."""
        return type(self)(replace(self._target, height=height, width=width))

    def _output(self, outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (N, classes + 4 bins)."""
        classes, output = self._target.class_count, _joined(outputs)
        bins, rest = divmod(output.shape[-1] - classes, _SIDES)
        if rest or bins < _LEAST_BINS:
            expected = (1, "cells", f"{classes} + 4 * (reg_max + 1)")
            raise unreadable(output.shape, expected, family="nanodet", where=self._target.where)
        if len(self._cells) != output.shape[1]:
            self._cells = cells(self._target, output.shape[1], family="nanodet")
            self._cells[:, :2] += _HALF_CELL if len(outputs) > 1 else 0
        found: NDArray[np.float32] = output[0]
        return found

    def _boxes(self, output: NDArray[np.float32], anchors: NDArray[np.intp]) -> NDArray[np.float32]:
        grid = self._cells[anchors]
        logits = output[anchors, self._target.class_count :].reshape(len(anchors), _SIDES, -1)
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        distances = weights @ np.arange(weights.shape[2], dtype=np.float32) / weights.sum(axis=2)
        points = np.concatenate([grid[:, :2] - distances[:, :2], grid[:, :2] + distances[:, 2:]], axis=1)
        boxes: NDArray[np.float32] = (points * grid[:, 2:]).astype(np.float32)
        return boxes


def _joined(outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return (1, N, C + 4 bins), of one output or of an output for each level's classes and then distributions."""
    if len(outputs) == 1:
        return outputs[0]
    levels = [output.reshape(1, -1, output.shape[-1]) for output in outputs]
    half = len(levels) // 2
    parts = [np.concatenate(levels[:half], axis=1), np.concatenate(levels[half:], axis=1)]
    return np.concatenate(parts, axis=2)
