"""A small picture of a frame and what was found in it, for pages and reports."""

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detections import Detections
from mecha.detect.draw import draw

_QUALITY = 70


def preview(frame_bgr: NDArray[np.uint8], detections: Detections, *, longest: int, footer: str = "") -> bytes:
    """Return a frame with its detections as a JPEG.

    Args:
        frame_bgr: (H, W, 3) uint8.
        detections: boxes in pixels of this frame.
        longest: pixels of the longer side at most; a smaller frame keeps its size.
        footer: one line of text at the bottom.
    """
    scale = preview_scale(frame_bgr.shape[0], frame_bgr.shape[1], longest)
    small = _small(frame_bgr, scale)
    scaled = Detections(
        (detections.boxes_xyxy * scale).astype(np.float32), detections.scores, detections.class_ids, detections.names
    )
    return _jpeg(draw(small, scaled, footer=footer), _QUALITY)


def small_jpeg(frame_bgr: NDArray[np.uint8], *, longest: int, quality: int) -> bytes:
    """Return a frame as a JPEG with nothing drawn on it; arguments as those of `preview`, quality 1 to 100."""
    scale = preview_scale(frame_bgr.shape[0], frame_bgr.shape[1], longest)
    return _jpeg(frame_bgr if scale == 1 else _small(frame_bgr, scale), quality)


def preview_scale(height: int, width: int, longest: int) -> float:
    """Return by how much a frame is made smaller, 1 for one that is small enough."""
    return min(1.0, longest / max(height, width))


def _small(frame_bgr: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    import cv2

    height, width = frame_bgr.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(frame_bgr, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _jpeg(frame_bgr: NDArray[np.uint8], quality: int) -> bytes:
    import cv2

    _, encoded = cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()
