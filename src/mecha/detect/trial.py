"""Whether a model can be of the family that somebody says: it is run, and read as that family is read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Detector
from mecha.errors import UnsupportedModelError
from mecha.store.spec import ModelSpec

_FRAMES = 2
# Room for the arithmetic of a graph.
_LEAST_SCORE, _LARGEST_SCORE = -0.01, 1.01
# The centres of all anchors cover the frame: evenly spread ones deviate by 0.29 of its sides, and those of yolov8n,
# yolo11n, yolov5n, yolox_nano and yolov10n by 0.28 to 0.29. Raw boxes that are taken for decoded ones lie in a corner
# (0.00, yolox_nano as yolov5); decoded ones that are taken for raw lie far beside the frame (2 and more).
_LEAST_SPREAD, _LARGEST_SPREAD = 0.1, 1.0
_MOST_TURNED = 0.5


def family_fault(file: Path, spec: ModelSpec) -> str:
    """Say in what a model's outputs are none of its family's, by running it on built-in scenes; empty where they are.

    Args:
        file: an ONNX file that onnxruntime loads.
        spec: describes it; its family is what is tried.
    """
    from mecha.arena.scene import calibration_scene

    width, height = spec.input.width, spec.input.height
    sides = np.array([width, height] * 2, np.float32)
    try:
        detector = Detector.from_file(file, spec, precision="FP32", threads=1)
        for number in range(_FRAMES):
            _, scores, boxes = detector.examine(calibration_scene(0, number, width, height))
            shares = np.divide(boxes, sides, dtype=np.float32)
            fault = _fault(scores, shares, spread=detector.overlapping)
            if fault:
                return fault
    except UnsupportedModelError as error:
        return str(error).removeprefix(f"{spec.name}: ")
    except (ValueError, LookupError) as error:
        # Arrays of another make than the decoder's: it has no sentence for each of them.
        return f"its outputs cannot be read so: {error}"
    return ""


def _fault(scores: NDArray[np.float32], boxes: NDArray[np.float32], *, spread: bool) -> str:
    """Judge scores (A, classes) and boxes_xyxy (A, 4) in shares of the frame.

    Args:
        spread: there is a box for every cell of a grid, so that they lie all over the frame.
    """
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        return "got NaN or infinity in its boxes or scores; expected numbers"
    lowest, highest = float(scores.min(initial=0)), float(scores.max(initial=0))
    if lowest < _LEAST_SCORE or highest > _LARGEST_SCORE:
        return f"got scores from {lowest:.3g} to {highest:.3g}; expected 0 to 1"
    turned = float(np.mean((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))) if len(boxes) else 0.0
    if turned > _MOST_TURNED:
        return f"got boxes of which {turned:.0%} end before they begin; expected corners x1 y1 x2 y2"
    if spread and len(boxes):
        reach = float(((boxes[:, :2] + boxes[:, 2:]) / 2).std(axis=0).min())
        if not _LEAST_SPREAD <= reach <= _LARGEST_SPREAD:
            return (
                f"got boxes whose centres deviate by {reach:.2f} of the frame's sides; expected about 0.29, all over it"
            )
    return ""
