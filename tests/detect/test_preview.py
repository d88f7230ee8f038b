import numpy as np
import pytest

from mecha.detect.detections import Detections
from mecha.detect.images import decode_image
from mecha.detect.preview import preview, small_jpeg


def one_box(*corners: float) -> Detections:
    return Detections(np.array([corners], np.float32), np.array([0.9], np.float32), np.array([0], np.int32), ("cone",))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (240, 320)), ((1000, 100), (320, 32)), ((100, 200), (100, 200)), ((1, 900), (1, 320))],
)
def test_a_picture_is_no_larger_than_wanted(size: tuple[int, int], expected: tuple[int, int]) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    picture = decode_image(preview(frame, one_box(0, 0, 1, 1), longest=320), where="preview")
    assert picture.shape == (*expected, 3)


def test_boxes_shrink_with_the_frame() -> None:
    frame = np.zeros((600, 800, 3), np.uint8)
    picture = decode_image(preview(frame, one_box(200, 200, 600, 400), longest=400), where="preview")
    drawn = np.argwhere(picture.max(axis=2) > 128)
    # The label stands above the box.
    assert drawn[:, 1].min() in range(97, 103)
    assert drawn[:, 1].max() in range(297, 303)
    assert drawn[:, 0].max() in range(197, 203)


@pytest.mark.parametrize(("size", "expected"), [((480, 640), (240, 320)), ((32, 64), (32, 64))])
def test_a_frame_alone_is_made_small_too(size: tuple[int, int], expected: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 90, np.uint8)
    picture = decode_image(small_jpeg(frame, longest=320, quality=75), where="frame")
    assert picture.shape == (*expected, 3)
    assert abs(int(picture.mean()) - 90) <= 2
