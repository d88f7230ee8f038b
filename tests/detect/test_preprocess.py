import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.detect.preprocess import Letterbox, Preprocessor
from mecha.store.spec import PreprocessingPreset

PRESETS: tuple[PreprocessingPreset, ...] = ("yolo", "yolox", "detr", "nanodet", "imagenet", "raw")
sides = st.integers(min_value=1, max_value=400)
inputs = st.sampled_from([32, 64, 96, 160])


def plain(height: int, width: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def frame_area(tensor: NDArray[np.float32], geometry: Letterbox) -> tuple[slice, slice]:
    height = round(geometry.frame_height * geometry.scale_y)
    width = round(geometry.frame_width * geometry.scale_x)
    return slice(geometry.pad_y, geometry.pad_y + height), slice(geometry.pad_x, geometry.pad_x + width)


def test_yolo_centres_the_frame_on_grey_in_rgb_between_0_and_1() -> None:
    tensor, geometry = Preprocessor("yolo", 64, 64)(plain(32, 64, (0, 51, 255)))
    assert geometry == Letterbox(1.0, 1.0, 0, 16, frame_width=64, frame_height=32)
    assert tensor.shape == (1, 3, 64, 64)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0, :, 32, 5], [1.0, 0.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(tensor[0, :, 0, 5], 114 / 255, atol=1e-6)
    np.testing.assert_allclose(tensor[0, :, 63, 5], 114 / 255, atol=1e-6)


def test_yolox_puts_the_frame_top_left_in_bgr_between_0_and_255() -> None:
    tensor, geometry = Preprocessor("yolox", 64, 64)(plain(32, 64, (10, 51, 255)))
    assert (geometry.pad_x, geometry.pad_y) == (0, 0)
    np.testing.assert_array_equal(tensor[0, :, 31, 63], [10, 51, 255])
    np.testing.assert_array_equal(tensor[0, :, 32, 63], 114)


def test_detr_stretches_without_padding() -> None:
    tensor, geometry = Preprocessor("detr", 64, 96)(plain(20, 20, (0, 51, 255)))
    assert (geometry.scale_x, geometry.scale_y) == (96 / 20, 64 / 20)
    np.testing.assert_allclose(tensor[0, :, 0, 0], [1.0, 0.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(tensor[0, :, -1, -1], [1.0, 0.2, 0.0], atol=1e-6)


def test_nanodet_is_normalised_like_imagenet_in_the_order_of_the_camera() -> None:
    tensor, _ = Preprocessor("nanodet", 32, 32)(plain(8, 8, (255, 0, 51)))
    expected = [(1 - 0.406) / 0.225, (0 - 0.456) / 0.224, (0.2 - 0.485) / 0.229]
    np.testing.assert_allclose(tensor[0, :, 0, 0], expected, rtol=1e-5)


def test_imagenet_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    tensor, _ = Preprocessor("imagenet", 32, 32)(plain(8, 8, (255, 0, 51)))
    expected = [(0.2 - 0.485) / 0.229, (0 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(tensor[0, :, 5, 5], expected, atol=1e-5)


def test_raw_keeps_channels_and_values() -> None:
    tensor, _ = Preprocessor("raw", 32, 32)(plain(8, 8, (3, 2, 1)))
    np.testing.assert_array_equal(tensor[0, :, 5, 5], [3, 2, 1])


def test_a_frame_of_the_input_size_is_not_resampled() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    tensor, _ = Preprocessor("yolox", 64, 64)(frame)
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0), frame)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_frame_leaves_nothing_behind_for_a_frame_of_another_shape(preset: PreprocessingPreset) -> None:
    kept = Preprocessor(preset, 64, 64)
    kept(plain(64, 16, (255, 255, 255)))
    after, _ = kept(plain(16, 64, (9, 9, 9)))
    fresh, _ = Preprocessor(preset, 64, 64)(plain(16, 64, (9, 9, 9)))
    np.testing.assert_array_equal(after, fresh)


def test_the_tensor_is_one_buffer_that_is_reused() -> None:
    preprocessor = Preprocessor("yolo", 64, 64)
    first, _ = preprocessor(plain(10, 10, (0, 0, 0)))
    second, _ = preprocessor(plain(10, 10, (9, 9, 9)))
    assert first is second


@settings(max_examples=60, deadline=None)
@given(sides, sides, inputs, inputs, st.sampled_from(PRESETS))
def test_any_frame_fits_the_input_and_fills_at_least_one_side(
    frame_height: int, frame_width: int, height: int, width: int, preset: PreprocessingPreset
) -> None:
    tensor, geometry = Preprocessor(preset, height, width)(plain(frame_height, frame_width, (7, 7, 7)))
    assert tensor.shape == (1, 3, height, width)
    rows, columns = frame_area(tensor, geometry)
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    assert rows.stop - rows.start == height or columns.stop - columns.start == width
    inside = tensor[0, :, rows, columns]
    np.testing.assert_array_equal(inside, np.broadcast_to(inside[:, :1, :1], inside.shape))
    assert np.isfinite(tensor).all()


@settings(max_examples=60, deadline=None)
@given(sides, sides, inputs, inputs, st.sampled_from(PRESETS), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_return_to_the_frame_as_they_left_it(
    frame_height: int, frame_width: int, height: int, width: int, preset: PreprocessingPreset, corners: list[float]
) -> None:
    _, geometry = Preprocessor(preset, height, width)(plain(frame_height, frame_width, (7, 7, 7)))
    box = np.array([corners], dtype=np.float32) * np.array([frame_width, frame_height] * 2, dtype=np.float32)
    there = geometry.to_input(box)
    assert (there >= 0).all()
    assert (there[:, 0::2] <= width + 1e-3).all()
    assert (there[:, 1::2] <= height + 1e-3).all()
    np.testing.assert_allclose(geometry.to_frame(there), box, atol=0.01, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(sides, sides, inputs, inputs, st.sampled_from(("yolo", "yolox")), st.sampled_from([8, 16, 32]))
def test_a_rectangle_is_the_square_with_less_padding(
    frame_height: int, frame_width: int, height: int, width: int, preset: PreprocessingPreset, stride: int
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (frame_height, frame_width, 3), dtype=np.uint8)
    whole, around = Preprocessor(preset, height, width)(frame)
    tensor, geometry = Preprocessor(preset, height, width, stride=stride)(frame)
    assert tensor.flags.c_contiguous
    limits = zip(tensor.shape[2:], (height, width), frame_area(tensor, geometry), strict=True)
    for outer, largest, inner in limits:
        assert outer % stride == 0
        assert outer <= largest
        assert 0 <= inner.start < inner.stop <= outer
        assert outer - (inner.stop - inner.start) < stride
    rows, columns = frame_area(tensor, geometry)
    np.testing.assert_array_equal(
        tensor[:, :, rows, columns], whole[(slice(None), slice(None), *frame_area(whole, around))]
    )
    padding = np.ones(tensor.shape[2:], bool)
    padding[rows, columns] = False
    grey = 114 / 255 if preset == "yolo" else 114
    np.testing.assert_allclose(tensor[0, :, padding], grey, rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(sides, sides, inputs, st.sampled_from([8, 32]), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_return_from_a_rectangle_as_they_left(
    frame_height: int, frame_width: int, size: int, stride: int, corners: list[float]
) -> None:
    tensor, geometry = Preprocessor("yolo", size, size, stride=stride)(plain(frame_height, frame_width, (7, 7, 7)))
    box = np.array([corners], dtype=np.float32) * np.array([frame_width, frame_height] * 2, dtype=np.float32)
    there = geometry.to_input(box)
    assert (there >= 0).all()
    assert (there[:, 0::2] <= tensor.shape[3] + 1e-3).all()
    assert (there[:, 1::2] <= tensor.shape[2] + 1e-3).all()
    np.testing.assert_allclose(geometry.to_frame(there), box, atol=0.01, rtol=1e-4)


def test_tensors_of_any_order_of_rectangles_are_those_of_a_new_buffer() -> None:
    kept = Preprocessor("yolo", 64, 64, stride=16)
    for height, width in ((20, 60), (60, 20), (64, 64), (1, 200), (20, 60)):
        frame = plain(height, width, (9, 200, 31))
        np.testing.assert_array_equal(kept(frame)[0], Preprocessor("yolo", 64, 64, stride=16)(frame)[0])


def test_the_far_corner_of_the_frame_is_exact_where_sizes_are_rounded() -> None:
    _, geometry = Preprocessor("yolo", 640, 640)(plain(427, 640 * 3 + 1, (7, 7, 7)))
    corner = geometry.to_input(np.array([[0, 0, 640 * 3 + 1, 427]], dtype=np.float32))
    assert corner[0, 2] == 640
    assert corner[0, 3] == geometry.pad_y + round(427 * 640 / (640 * 3 + 1))


def test_boxes_are_clipped_to_the_frame() -> None:
    geometry = Letterbox(0.5, 0.5, 0, 10, frame_width=100, frame_height=40)
    boxes = geometry.to_frame(np.array([[-5, 5, 60, 45]], dtype=np.float32))
    np.testing.assert_array_equal(boxes, [[0, 0, 100, 40]])
    assert boxes.dtype == np.float32


def test_no_boxes_stay_no_boxes() -> None:
    geometry = Letterbox(0.5, 0.5, 0, 10, frame_width=100, frame_height=40)
    assert geometry.to_frame(np.empty((0, 4), dtype=np.float32)).shape == (0, 4)
