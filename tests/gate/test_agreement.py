import numpy as np
import pytest

from mecha.detect.detections import Detections
from mecha.gate.agreement import Comparison, FrameOutputs, matches

Rows = list[tuple[int, int, float]]


def found(rows: Rows) -> Detections:
    """Detections of size 10 from (left edge, class id, score), strongest first."""
    rows = sorted(rows, key=lambda row: -row[2])
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], dtype=np.float32).reshape(-1, 4)
    scores = np.array([score for _, _, score in rows], dtype=np.float32)
    return Detections(boxes, scores, np.array([class_id for _, class_id, _ in rows], dtype=np.int32), ("a", "b"))


def outputs(rows: Rows, *, factor: float = 1.0, seed: int = 1) -> FrameOutputs:
    """The detections, with 500 anchors whose raw scores are small and multiplied by `factor`."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 0.05, (500, 2)).astype(np.float32) * np.float32(factor)
    corners = rng.uniform(0, 50, (500, 2))
    boxes = np.concatenate([corners, corners + 20], axis=1).astype(np.float32)
    return FrameOutputs(found(rows), scores, boxes)


def spread(count: int, score: float = 0.9) -> Rows:
    return [(20 * index, 0, score) for index in range(count)]


def compared(fp32: FrameOutputs, int8: FrameOutputs) -> Comparison:
    comparison = Comparison()
    comparison.add(fp32, int8)
    return comparison


def test_equal_outputs_agree_wholly() -> None:
    record = compared(outputs(spread(12)), outputs(spread(12))).record()
    assert record.agreement == 1.0
    assert record.f1 == {"0.25": 1.0, "0.5": 1.0, "0.7": 1.0}
    assert record.detections == {"0.25": 12, "0.5": 12, "0.7": 12}
    assert (record.frames, record.score_error, record.box_iou) == (1, 0.0, 1.0)


def test_f1_counts_what_is_missing_and_what_is_too_much() -> None:
    # 12 of FP32, 10 of INT8, 8 of them matched: 2 * 8 / 22.
    fp32, int8 = spread(12), [*spread(8), (1000, 0, 0.9), (2000, 0, 0.9)]
    assert compared(outputs(fp32), outputs(int8)).record().f1["0.5"] == round(16 / 22, 4)


def test_the_agreement_is_that_of_the_worst_threshold() -> None:
    # No score of INT8 passes 0.5.
    record = compared(outputs(spread(12)), outputs(spread(12, 0.49))).record()
    assert record.f1 == {"0.25": 1.0, "0.5": 0.0, "0.7": 0.0}
    assert record.agreement == 0.0


def test_a_threshold_with_few_detections_does_not_count() -> None:
    fp32 = [*spread(9), *((20 * index, 1, 0.3) for index in range(20, 25))]
    record = compared(outputs(fp32), outputs(fp32)).record()
    assert record.f1 == {"0.25": 1.0}
    assert record.detections == {"0.25": 14}


def test_objects_that_only_int8_sees_count() -> None:
    comparison = compared(outputs([]), outputs(spread(30)))
    assert comparison.record().agreement == 0.0
    assert comparison.record().detections == {"0.25": 0, "0.5": 0, "0.7": 0}
    assert comparison.support("0.25") == 30


def test_without_objects_the_agreement_is_the_overlap_of_the_raw_scores() -> None:
    record = compared(outputs([]), outputs([], factor=0.8)).record()
    assert record.f1 == {}
    assert record.agreement == pytest.approx(0.8, abs=0.01)
    assert record.score_error > 0


def test_zeros_do_not_agree_with_small_scores() -> None:
    # The scores of FP32 are below 0.05, so that the mean error alone would look small.
    record = compared(outputs([]), outputs([], factor=0.0)).record()
    assert record.agreement == 0.0
    assert record.score_error < 0.06


def test_raised_scores_are_seen_as_well_as_lowered_ones() -> None:
    assert compared(outputs([]), outputs([], factor=2.0)).record().agreement == pytest.approx(0.5, abs=0.01)


def test_two_models_that_see_nothing_at_all_agree() -> None:
    assert compared(outputs([], factor=0.0), outputs([], factor=0.0)).record().agreement == 1.0


def test_boxes_are_compared_at_the_strongest_anchors_of_fp32() -> None:
    fp32 = outputs([])
    aside = np.array([20, 0, 20, 0], dtype=np.float32)
    moved = FrameOutputs(fp32.detections, fp32.scores, fp32.boxes_xyxy + aside)
    assert compared(fp32, moved).record().box_iou == 0.0


def test_frames_add_up() -> None:
    comparison = Comparison()
    for _ in range(3):
        comparison.add(outputs(spread(4)), outputs(spread(4)))
    assert comparison.record().frames == 3
    assert comparison.record().detections["0.25"] == 12


@pytest.mark.parametrize(
    ("fp32", "int8", "count"),
    [
        ([], [], 0),
        ([(0, 0, 0.9)], [], 0),
        ([(0, 0, 0.9)], [(0, 1, 0.9)], 0),
        ([(0, 0, 0.9)], [(3, 0, 0.9)], 1),
        ([(0, 0, 0.9)], [(4, 0, 0.9)], 0),
        ([(0, 0, 0.9)], [(0, 0, 0.9), (1, 0, 0.8)], 1),
        ([(0, 0, 0.9), (1, 0, 0.8)], [(0, 0, 0.9), (1, 0, 0.8)], 2),
    ],
)
def test_a_detection_is_matched_once_by_class_and_overlap(fp32: Rows, int8: Rows, count: int) -> None:
    assert matches(found(fp32), found(int8)) == count


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_told(value: float) -> None:
    bad = np.full((5, 2), value, dtype=np.float32)
    good = np.zeros((5, 4), dtype=np.float32)
    assert not FrameOutputs(found([]), bad, good).finite
    assert FrameOutputs(found([]), good[:, :2], good).finite
