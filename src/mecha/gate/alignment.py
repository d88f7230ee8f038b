"""Which row of one output is which row of another, for models that pick their boxes themselves.

An anchor has its place in the output whatever the precision. Rows that the graph sorted or selected have none: a score
that changes in the third decimal puts every row after it in another place. So before such outputs are compared, INT8's
rows are put where FP32 has the same object.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mecha.detect.nms import iou_matrix
from mecha.gate.agreement import FrameOutputs

# Rows beyond these carry scores near zero.
_STRONGEST = 100


def aligned(ours: FrameOutputs, theirs: FrameOutputs) -> FrameOutputs:
    """Return theirs with its rows where ours has the same object."""
    rows = aligned_rows((ours.scores, ours.boxes_xyxy), (theirs.scores, theirs.boxes_xyxy))
    return replace(theirs, scores=theirs.scores[rows], boxes_xyxy=theirs.boxes_xyxy[rows])


def aligned_rows(
    ours: tuple[NDArray[np.float32], NDArray[np.float32]], theirs: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> NDArray[np.intp]:
    """Return, for each row of ours, the row of theirs that stands for it; every row of theirs appears once.

    Rows are paired by best class and overlap, our strongest first; what finds no partner keeps the order it has.

    Args:
        ours: scores (N, C) and boxes_xyxy (N, 4); theirs has the same shapes.
    """
    first, second = _strongest(ours[0]), _strongest(theirs[0])
    overlaps = iou_matrix(ours[1][first], theirs[1][second])
    overlaps[ours[0][first].argmax(axis=1)[:, None] != theirs[0][second].argmax(axis=1)[None, :]] = 0
    rows = np.full(len(ours[0]), -1, dtype=np.intp)
    for position, row in enumerate(first):
        best = int(overlaps[position].argmax())
        if overlaps[position, best] > 0:
            rows[row] = second[best]
            overlaps[:, best] = 0
    free = np.setdiff1d(np.arange(len(rows)), rows)
    rows[rows < 0] = free
    return rows


def _strongest(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    strongest: NDArray[np.intp] = np.argsort(-scores.max(axis=1), kind="stable")[:_STRONGEST]
    return strongest
