import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.detect.nms import MAX_CANDIDATES, iou_matrix, nms, paired_iou

# Whole numbers, so that many boxes coincide and many scores tie.
box = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 6), st.integers(0, 6))
candidates = st.lists(st.tuples(box, st.integers(0, 4), st.integers(0, 2)), max_size=25)


def arrays(
    rows: list[tuple[tuple[int, int, int, int], int, int]],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    boxes = np.array([[x, y, x + w, y + h] for (x, y, w, h), _, _ in rows], dtype=np.float32).reshape(-1, 4)
    scores = np.array([score / 4 for _, score, _ in rows], dtype=np.float32)
    return boxes, scores, np.array([class_id for _, _, class_id in rows], dtype=np.int32)


def reference_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[float, float]:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    overlap = float(width * height)
    union = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - overlap
    return overlap, union


def reference_nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int32], limit: float, most: int
) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        for other in kept:
            overlap, union = reference_iou(boxes[index], boxes[other])
            if classes[index] == classes[other] and overlap > limit * union:
                break
        else:
            kept.append(index)
    return kept[:most]


@settings(max_examples=200, deadline=None)
@given(candidates, st.sampled_from([0.0, 0.3, 0.45, 0.7, 1.0]), st.integers(1, 8))
def test_it_keeps_what_a_plain_loop_keeps(
    rows: list[tuple[tuple[int, int, int, int], int, int]], limit: float, most: int
) -> None:
    boxes, scores, classes = arrays(rows)
    kept = nms(boxes, scores, classes, iou_threshold=limit, max_detections=most)
    assert kept.tolist() == reference_nms(boxes, scores, classes, limit, most)


@settings(max_examples=50, deadline=None)
@given(candidates, candidates)
def test_the_iou_matrix_is_the_iou_of_every_pair(
    rows_a: list[tuple[tuple[int, int, int, int], int, int]], rows_b: list[tuple[tuple[int, int, int, int], int, int]]
) -> None:
    a, b = arrays(rows_a)[0], arrays(rows_b)[0]
    matrix = iou_matrix(a, b)
    assert matrix.shape == (len(a), len(b))
    for i in range(len(a)):
        for j in range(len(b)):
            overlap, union = reference_iou(a[i], b[j])
            assert matrix[i, j] == (overlap / union if union else 0.0)
    n = min(len(a), len(b))
    np.testing.assert_array_equal(paired_iou(a[:n], b[:n]), np.diagonal(matrix[:n, :n]))


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], dtype=np.float32)
    scores, classes = np.full(3, 0.5, dtype=np.float32), np.zeros(3, dtype=np.int32)
    assert nms(boxes, scores, classes, iou_threshold=0.5, max_detections=9).tolist() == [0, 2]


def test_classes_do_not_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], dtype=np.float32)
    scores = np.array([0.5, 0.9], dtype=np.float32)
    kept = nms(boxes, scores, np.array([0, 1], dtype=np.int32), iou_threshold=0.5, max_detections=9)
    assert kept.tolist() == [1, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_pass_through(count: int) -> None:
    boxes = np.zeros((count, 4), dtype=np.float32)
    kept = nms(boxes, np.ones(count, np.float32), np.zeros(count, np.int32), iou_threshold=0.5, max_detections=9)
    assert kept.tolist() == list(range(count))


def test_beyond_the_candidate_limit_the_weakest_are_dropped() -> None:
    count = MAX_CANDIDATES + 10
    boxes = np.arange(count, dtype=np.float32)[:, None] * 20 + np.array([0, 0, 10, 10], dtype=np.float32)
    scores = np.linspace(1, 0, count, dtype=np.float32)
    kept = nms(boxes, scores, np.zeros(count, np.int32), iou_threshold=0.5, max_detections=count)
    assert kept.tolist() == list(range(MAX_CANDIDATES))
