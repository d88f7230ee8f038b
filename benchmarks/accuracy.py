"""Measures whether the short path costs accuracy: mAP of mecha FP32 beside an evaluation that takes no short cut.

python benchmarks/accuracy.py MODELS_DIR INSTANCES.json IMAGES_DIR [--most N] [--only NAME]

MODELS_DIR holds yolov8n.onnx, yolov8n_dynamic.onnx, yolo11n.onnx, yolov5n.onnx and yolox_nano.onnx. The reference
runs the whole graph in plain onnxruntime, decodes every anchor with the arithmetic below, suppresses class by class
and evaluates with pycocotools; the two share nothing but the annotations. Both use confidence 0.001, IoU 0.65, 300
detections a photo and a box for each class that passes. Static files run at their square; of a dynamic file both pad
a photo to the next multiples of 32 only. The script ends with an error when a difference exceeds 0.001.
"""

import argparse
import contextlib
import io
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mecha import Detector

_MIN_SCORE, _MAX_IOU, _MAX_DETECTIONS = 0.001, 0.65, 300
_MOST_DIFFERENCE = 0.001
_PAD = 114

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One model at one size.

    Attributes:
        decode: gives boxes as x, y, width, height in input pixels and scores of all anchors.
        stride: the sides of the input are multiples of it, no larger than a photo needs; None for the whole square.
    """

    model: str
    size: int
    decode: Callable[[Array, int], tuple[Array, Array]]
    bgr_bytes: bool = False
    stride: int | None = None


def channels_first(output: Array, size: int) -> tuple[Array, Array]:
    """Of (4 + classes, anchors): centre, size, class scores."""
    del size
    rows = output.T
    return rows[:, :4], rows[:, 4:]


def with_objectness(output: Array, size: int) -> tuple[Array, Array]:
    """Of (anchors, 5 + classes): centre, size, objectness, class scores."""
    del size
    return output[:, :4], output[:, 4:5] * output[:, 5:]


def on_a_grid(output: Array, size: int) -> tuple[Array, Array]:
    """Of (anchors, 5 + classes) with boxes as offsets of cells of strides 8, 16 and 32."""
    grid = [(x, y, stride) for stride in (8, 16, 32) for y in range(size // stride) for x in range(size // stride)]
    cells = np.array(grid, dtype=np.float32)
    centres = (output[:, :2] + cells[:, :2]) * cells[:, 2:]
    boxes = np.concatenate([centres, np.exp(output[:, 2:4]) * cells[:, 2:]], axis=1)
    return boxes, output[:, 4:5] * output[:, 5:]


CASES = (
    Case("yolov8n", 640, channels_first),
    Case("yolo11n", 640, channels_first),
    Case("yolov5n", 640, with_objectness),
    Case("yolox_nano", 416, on_a_grid, bgr_bytes=True),
    Case("yolov8n_dynamic", 320, channels_first, stride=32),
    Case("yolov8n_dynamic", 416, channels_first, stride=32),
    Case("yolov8n_dynamic", 640, channels_first, stride=32),
)


class Reference:
    """Plain onnxruntime and plain numpy."""

    def __init__(self, file: Path, case: Case) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._case = case

    def __call__(self, frame: NDArray[np.uint8]) -> list[tuple[NDArray[np.float64], float, int]]:
        """Return boxes x1 y1 x2 y2 in frame pixels, scores and class ids."""
        size = self._case.size
        height, width = frame.shape[:2]
        ratio = min(size / height, size / width)
        inner = round(width * ratio), round(height * ratio)
        outer = size, size
        if self._case.stride is not None:
            wide, high = (math.ceil(side / self._case.stride) * self._case.stride for side in inner)
            outer = wide, high
        left, top = (0, 0) if self._case.bgr_bytes else ((outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2)
        padded = np.full((outer[1], outer[0], 3), _PAD, dtype=np.uint8)
        resized = cv2.resize(frame, inner, interpolation=cv2.INTER_LINEAR)
        padded[top : top + inner[1], left : left + inner[0]] = resized
        values = padded if self._case.bgr_bytes else padded[:, :, ::-1] / np.float32(255)
        tensor = np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)
        output = self._session.run(None, {self._session.get_inputs()[0].name: tensor})[0][0]
        boxes, scores = self._case.decode(output, size)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        scales = np.array([inner[0] / width, inner[1] / height] * 2)
        on_frame = (corners - np.array([left, top] * 2)) / scales
        return suppressed(np.clip(on_frame, 0, [width, height] * 2), scores)


def suppressed(boxes: NDArray[np.float64], scores: Array) -> list[tuple[NDArray[np.float64], float, int]]:
    """Return what stays of each class after greedy suppression, the strongest of all classes first."""
    found: list[tuple[NDArray[np.float64], float, int]] = []
    for class_id in range(scores.shape[1]):
        passing = np.flatnonzero(scores[:, class_id] >= _MIN_SCORE)
        left = passing[np.argsort(-scores[passing, class_id], kind="stable")]
        while left.size:
            best, left = left[0], left[1:]
            found.append((boxes[best], float(scores[best, class_id]), class_id))
            left = left[overlap(boxes[best], boxes[left]) <= _MAX_IOU]
    return sorted(found, key=lambda item: -item[1])[:_MAX_DETECTIONS]


def overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of one box with others (N, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - common
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def of_mecha(file: Path, case: Case) -> Callable[[NDArray[np.uint8]], list[tuple[NDArray[np.float64], float, int]]]:
    """Return mecha FP32, cut before its decode tail, in the same form."""
    detector = Detector(
        file,
        precision="fp32",
        input_size=case.size,
        score_threshold=_MIN_SCORE,
        iou_threshold=_MAX_IOU,
        max_detections=_MAX_DETECTIONS,
        every_class=True,
    )
    assert detector.cut, f"{file}: runs whole"
    assert detector.stride == case.stride, f"{file}: pads to {detector.stride}"

    def detect(frame: NDArray[np.uint8]) -> list[tuple[NDArray[np.float64], float, int]]:
        found = detector(frame)
        boxes = found.boxes_xyxy.astype(np.float64)
        return list(zip(boxes, found.scores.tolist(), found.class_ids.tolist(), strict=True))

    return detect


def measured(
    detect: Callable[[NDArray[np.uint8]], list[tuple[NDArray[np.float64], float, int]]],
    truth: dict[str, Any],
    images: Path,
) -> tuple[float, float]:
    """Return mAP50-95 and mAP50 over the photos of an annotation file; classes are COCO's 80 in order."""
    categories = sorted(category["id"] for category in truth["categories"])
    results = []
    for image in truth["images"]:
        frame = cv2.imread(str(images / image["file_name"]))
        for box, score, class_id in detect(np.asarray(frame, dtype=np.uint8)):
            x1, y1, x2, y2 = box.tolist()
            results.append(
                {
                    "image_id": image["id"],
                    "category_id": categories[class_id],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def main() -> int:
    """Print a row a case; fail where mecha and the reference differ."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("instances", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--most", type=int, help="only the first so many photos")
    parser.add_argument("--only", help="only the cases of this model")
    arguments = parser.parse_args()
    truth = json.loads(arguments.instances.read_bytes())
    truth["images"] = truth["images"][: arguments.most]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [item for item in truth["annotations"] if item["image_id"] in ids]
    print(f"{len(ids)} photos, mAP50-95 / mAP50 in percent\n")
    print("| model | input | mecha FP32 | reference | difference |\n|---|--:|--:|--:|--:|")
    worst = 0.0
    for case in (case for case in CASES if arguments.only in {None, case.model}):
        file = arguments.models / f"{case.model}.onnx"
        ours = measured(of_mecha(file, case), truth, arguments.images)
        theirs = measured(Reference(file, case), truth, arguments.images)
        difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        worst = max(worst, difference)
        shown = [f"{100 * value[0]:.2f} / {100 * value[1]:.2f}" for value in (ours, theirs)]
        print(f"| {case.model} | {case.size} | {shown[0]} | {shown[1]} | {100 * difference:.3f} |", flush=True)
    return int(worst > _MOST_DIFFERENCE)


if __name__ == "__main__":
    sys.exit(main())
