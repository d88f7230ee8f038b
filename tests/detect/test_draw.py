import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.detections import Detections
from mecha.detect.draw import class_colour, draw


def detections(*boxes: tuple[float, float, float, float], names: tuple[str, ...] = ("cone", "ball")) -> Detections:
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        np.arange(len(boxes), dtype=np.int32) % 2,
        names,
    )


def test_the_frame_given_is_not_changed() -> None:
    frame = np.zeros((200, 300, 3), dtype=np.uint8)
    drawn = draw(frame, detections((50, 60, 150, 120)), footer="FP32 1.0 ms")
    assert not frame.any()
    assert drawn.shape == frame.shape
    assert drawn.dtype == np.uint8


def test_a_box_has_the_colour_of_its_class() -> None:
    drawn = draw(np.zeros((400, 600, 3), dtype=np.uint8), detections((50, 100, 250, 300)))
    assert tuple(drawn[200, 50].tolist()) == class_colour(0)
    assert tuple(drawn[300, 150].tolist()) == class_colour(0)
    assert not drawn[200, 150].any()


def test_without_detections_and_footer_nothing_is_drawn() -> None:
    frame = np.full((20, 30, 3), 7, dtype=np.uint8)
    np.testing.assert_array_equal(draw(frame, detections()), frame)


def test_the_footer_is_at_the_bottom_left() -> None:
    drawn = draw(np.full((400, 600, 3), 100, dtype=np.uint8), detections(), footer="INT8 18.2 ms")
    assert (drawn[380:, :100] != 100).any()
    assert (drawn[:300] == 100).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 2000, 3), (2160, 3840, 3)])
def test_any_frame_can_be_drawn_on(shape: tuple[int, int, int]) -> None:
    height, width, _ = shape
    boxes = detections((0, 0, width, height), (width - 1, height - 1, width, height), names=("Müller 漢", "b"))
    assert draw(np.zeros(shape, dtype=np.uint8), boxes, footer="ß").shape == shape


def test_classes_differ_in_colour() -> None:
    colours = np.array([class_colour(class_id) for class_id in range(36)], dtype=np.int64)
    distances = np.abs(colours[:, None] - colours[None, :]).sum(axis=2) + 1000 * np.eye(36, dtype=np.int64)
    assert distances.min() > 20


def filled(drawn: NDArray[np.uint8], class_id: int) -> int:
    """Number of pixels in the colour of a class."""
    return int((drawn == np.array(class_colour(class_id), dtype=np.uint8)).all(axis=2).sum())


def test_a_weaker_label_never_covers_a_stronger_one() -> None:
    frame = np.zeros((400, 600, 3), dtype=np.uint8)
    strong = (100.0, 200.0, 160.0, 220.0)
    alone = draw(frame, detections(strong))
    both = draw(frame, detections(strong, (104.0, 204.0, 164.0, 224.0)))
    # All of the first label is there; of the second object there is the box, with no place left for a label.
    assert (both[170:198, 100:200] == alone[170:198, 100:200]).all()
    assert 0 < filled(both, 1) < 400


def test_a_label_moves_to_a_free_place_of_its_box() -> None:
    frame = np.zeros((400, 600, 3), dtype=np.uint8)
    both = detections((100, 100, 300, 300), (102, 102, 302, 302))
    assert filled(draw(frame, both), 1) > 0.8 * filled(draw(frame, both[1:]), 1)


def test_a_label_at_the_edge_of_the_frame_stays_inside() -> None:
    frame = np.zeros((100, 200, 3), dtype=np.uint8)
    inside = draw(frame, detections((80, 60, 120, 90), names=("cone", "ball")))
    for corner in ((0, 0, 30, 30), (170, 0, 200, 30), (170, 70, 200, 100)):
        assert filled(draw(frame, detections(corner)), 0) > 0.7 * filled(inside, 0)


def test_a_narrow_frame_shows_the_first_words_of_the_footer() -> None:
    frame = np.full((48, 64, 3), 100, dtype=np.uint8)
    whole = draw(frame, detections(), footer="INT8 18.2 ms  yolov8n  pre 1.1")
    np.testing.assert_array_equal(whole, draw(frame, detections(), footer="INT8 18.2 ms"))
