"""A frame in 32x32 shades of grey: enough to tell whether two frames show the same."""

import numpy as np
from numpy.typing import NDArray

_SIDE = 32
# Every thumbnail pixel is the mean of at least so many pixels a side: their noise cancels, and the rest is not read.
_READ = 8 * _SIDE


def thumbnail(frame_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a frame, (H, W, 3) uint8 BGR, as (32, 32) float32 shades of grey from 0 to 255."""
    import cv2

    stride = max(1, min(frame_bgr.shape[:2]) // _READ)
    grey = cv2.cvtColor(np.ascontiguousarray(frame_bgr[::stride, ::stride]), cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the mean absolute difference of two thumbnails, in shades of 255."""
    return float(np.abs(one - other).mean())
