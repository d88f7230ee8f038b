"""Ways to bring a picture to the size of a model's input that other tools calibrate with."""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_PAD_VALUE = 114


def stretched(picture: Picture, height: int, width: int) -> Picture:
    """Return a picture (height, width, 3) without regard to its aspect ratio; averaged where it shrinks."""
    import cv2

    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]  # uint8 stays


def centre_crop(picture: Picture, height: int, width: int, *, share: float, smooth: bool) -> Picture:
    """Return the middle of a picture, (height, width, 3), its aspect ratio kept.

    Args:
        share: of the shorter side of the resized picture that the crop covers, 0 to 1.
        smooth: interpolate linearly where the picture grows; otherwise as the area does.
    """
    import cv2

    rows, columns = picture.shape[:2]
    scale = max(int(height / share) / rows, int(width / share) / columns)
    size = (max(round(columns * scale), width), max(round(rows * scale), height))
    method = cv2.INTER_LINEAR if smooth and scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(picture, size, interpolation=method)
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return resized[top : top + height, left : left + width]  # type: ignore[return-value]  # uint8 stays


def padded(picture: Picture, height: int, width: int) -> Picture:
    """Return a picture (height, width, 3) in its aspect ratio, grey on both sides of it, as YOLO models are trained."""
    import cv2

    rows, columns = picture.shape[:2]
    scale = min(height / rows, width / columns)
    inner = (min(max(round(columns * scale), 1), width), min(max(round(rows * scale), 1), height))
    result: Picture = np.full((height, width, 3), _PAD_VALUE, dtype=np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    result[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR)
    return result


def grey(picture: Picture) -> Picture:
    """Return a BGR picture as (height, width, 1)."""
    import cv2

    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[:, :, np.newaxis]  # type: ignore[return-value]  # uint8 stays
