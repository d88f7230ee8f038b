"""The cells that the anchors of an exported output belong to, where the output does not say."""

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import DecodeTarget
from mecha.errors import UnsupportedModelError

# Levels are neighbours in this list: 8, 16, 32 mostly, with 64 in larger models.
_STRIDES = (4, 8, 16, 32, 64, 128)


def cells(target: DecodeTarget, anchors: int, *, family: str) -> NDArray[np.float32]:
    """Return (anchors, 3): column, row and stride in pixels of each anchor's cell; levels finest first, row by row.

    Raises:
        UnsupportedModelError: no run of strides gives so many anchors.
    """
    levels = [_level(target, stride) for stride in _STRIDES]
    for first in range(len(levels)):
        count = 0
        for last in range(first, len(levels)):
            count += len(levels[last])
            if count == anchors:
                return np.concatenate(levels[first : last + 1])
    expected = sum(len(levels[_STRIDES.index(stride)]) for stride in (8, 16, 32))
    raise UnsupportedModelError(
        f"{target.where}: got {anchors} anchors for an input of {target.width}x{target.height}; "
        f"expected {expected} (strides 8, 16 and 32), or those of neighbouring strides, as the family {family} has",
        hint="Export the model for the input size that it runs at.",
    )


def _level(target: DecodeTarget, stride: int) -> NDArray[np.float32]:
    rows, columns = -(-target.height // stride), -(-target.width // stride)
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.stack([column, row, np.full_like(row, stride)], axis=1).astype(np.float32)
