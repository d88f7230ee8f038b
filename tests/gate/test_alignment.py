import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.gate.alignment import aligned_rows


def rows(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (N, 3) and boxes that do not overlap each other."""
    rng = np.random.default_rng(seed)
    corners = np.stack([np.arange(count) * 20, np.zeros(count)], axis=1)
    boxes = np.concatenate([corners, corners + rng.uniform(5, 15, (count, 2))], axis=1)
    return rng.uniform(0.1, 1, (count, 3)).astype(np.float32), boxes.astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 120))
def test_shuffled_rows_are_put_back(seed: int, count: int) -> None:
    scores, boxes = rows(seed, count)
    order = np.random.default_rng(seed + 1).permutation(count)
    found = aligned_rows((scores, boxes), (scores[order], boxes[order]))
    assert sorted(found) == list(range(count))
    strongest = np.argsort(-scores.max(axis=1))[:100]
    np.testing.assert_array_equal(order[found[strongest]], strongest)


def test_a_row_of_another_class_is_no_partner() -> None:
    scores = np.array([[0.9, 0.1], [0.1, 0.2]], np.float32)
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    theirs = np.array([[0.1, 0.9], [0.8, 0.1]], np.float32), boxes[[0, 0]]
    assert aligned_rows((scores, boxes), theirs).tolist() == [1, 0]


def test_what_finds_no_partner_keeps_its_order() -> None:
    scores = np.array([[0.9], [0.8], [0.7]], np.float32)
    ours = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], np.float32)
    theirs = np.array([[90, 0, 99, 9], [80, 0, 89, 9], [0, 0, 9, 9]], np.float32)
    assert aligned_rows((scores, ours), (scores, theirs)).tolist() == [2, 0, 1]
