"""Non-maximum suppression: of overlapping boxes of one class, the strongest stays."""

import numpy as np
from numpy.typing import NDArray

# Candidates beyond this many are dropped, weakest first. At a threshold of 0.001 a model of 8400 anchors gives tens of
# thousands; those below the first few thousand never reach the result and would cost seconds.
MAX_CANDIDATES = 4096


def nms(
    boxes_xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int32],
    *,
    iou_threshold: float,
    max_detections: int,
) -> NDArray[np.intp]:
    """Return the indices of the boxes that stay, strongest first; equal scores keep their order.

    A box is dropped when a stronger kept box of the same class overlaps it by more than `iou_threshold`.

    Args:
        boxes_xyxy: (N, 4) x1 y1 x2 y2.
        scores: (N,).
        class_ids: (N,); boxes of different classes never suppress each other.
        iou_threshold: 0 to 1.
        max_detections: at most so many indices are returned.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    x1, y1, x2, y2 = np.ascontiguousarray(boxes_xyxy[order].T, dtype=np.float64)
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    classes = class_ids[order]
    left = np.arange(len(order))
    kept: list[int] = []
    while left.size and len(kept) < max_detections:
        best, rest = left[0], left[1:]
        kept.append(order[best])
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        union = areas[best] + areas[rest] - overlap
        left = rest[(overlap <= iou_threshold * union) | (classes[rest] != classes[best])]
    return np.array(kept, dtype=np.intp)


def iou_matrix(a_xyxy: NDArray[np.float32], b_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return intersection over union of every box of a (N, 4) with every box of b (M, 4): (N, M), 0 for empty boxes."""
    a, b = a_xyxy.astype(np.float64), b_xyxy.astype(np.float64)
    overlap = _intersections(a[:, None, :], b[None, :, :])
    union = _areas(a)[:, None] + _areas(b)[None, :] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def paired_iou(a_xyxy: NDArray[np.float32], b_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the IoU of each box of a (N, 4) with the box of b (N, 4) in the same row: (N,)."""
    a, b = a_xyxy.astype(np.float64), b_xyxy.astype(np.float64)
    overlap = _intersections(a, b)
    union = _areas(a) + _areas(b) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    areas: NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return areas


def _intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return _areas(np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=-1))
