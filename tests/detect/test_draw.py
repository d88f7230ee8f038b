import numpy as np
import pytest

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
