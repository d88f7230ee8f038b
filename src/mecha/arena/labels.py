"""What a rendered scene holds: the picture and the truth about it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES: tuple[str, ...] = ("cone", "ball", "crate", "tag")

CONE, BALL, CRATE, TAG = range(4)


@dataclass(frozen=True, slots=True)
class Scene:
    """One rendered frame with its ground truth.

    Attributes:
        frame_bgr: (H, W, 3) uint8, channels in the order blue, green, red.
        boxes_xyxy: (N, 4) float32, pixels of the frame; the tight extent of what can be *seen* of each object
            (occluded and cut-off parts do not count), 0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H.
        class_ids: (N,) int32, indices into CLASS_NAMES.
    """

    frame_bgr: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int32]
