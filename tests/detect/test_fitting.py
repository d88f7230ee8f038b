import numpy as np
import pytest

from mecha.detect.fitting import centre_crop, grey, padded, stretched


def picture(height: int, width: int) -> np.ndarray:
    """Darker to the left, so that a place can be told by its value."""
    return np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)


def test_a_stretched_picture_keeps_both_ends() -> None:
    result = stretched(picture(40, 200), 64, 32)
    assert result.shape == (64, 32, 3)
    assert result[:, 0].max() < 8
    assert result[:, -1].min() > 247


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("size", [(40, 200), (200, 40), (300, 300), (20, 20)])
def test_a_crop_shows_the_middle_whatever_the_shape(size: tuple[int, int], *, smooth: bool) -> None:
    result = centre_crop(picture(*size), 32, 32, share=0.875, smooth=smooth)
    assert result.shape == (32, 32, 3)
    assert 120 < result.mean() < 135
    # 7/8 of the shorter side: what lies outside of it is not seen.
    shown = (int(result.max()) - int(result.min())) / 255 * size[1] / min(size)
    assert 0.75 < shown < 0.93


def test_padding_is_grey_on_both_sides() -> None:
    result = padded(np.zeros((50, 100, 3), dtype=np.uint8), 64, 64)
    assert (result[:16] == 114).all()
    assert (result[-16:] == 114).all()
    assert (result[16:48] == 0).all()


def test_grey_has_one_channel() -> None:
    assert grey(picture(10, 20)).shape == (10, 20, 1)
