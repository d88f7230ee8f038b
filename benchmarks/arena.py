"""Measures an arena model: mAP on scenes it was not trained on, in plain onnxruntime, by the COCO definition.

python benchmarks/arena.py [MODEL] [--scenes 500]
"""

import argparse
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mecha.arena.scene import CLASS_NAMES, training_scene

_SHIPPED = Path(__file__).resolve().parents[1] / "src" / "mecha" / "arena" / "arena-n.onnx"
_MIN_SCORE, _MAX_IOU, _MAX_DETECTIONS = 0.001, 0.65, 300


def detect(session: ort.InferenceSession, frame_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Rows (M, 6) x0, y0, x1, y1, score, class of a 320x320 frame, best first, after NMS within each class."""
    pixels = np.ascontiguousarray(frame_bgr[None, ..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    output = session.run(["output0"], {"images": pixels})[0][0]
    anchors, classes = np.nonzero(output[4:].T > _MIN_SCORE)
    middle, half = output[:2, anchors].T, output[2:4, anchors].T / 2
    scores = output[4 + classes, anchors]
    rows = np.column_stack([middle - half, middle + half, scores, classes]).astype(np.float32)
    return _suppress(rows[np.argsort(-scores, kind="stable")])


def _suppress(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = rows[:, :4] + rows[:, 5:] * 10_000
    areas = np.prod(shifted[:, 2:] - shifted[:, :2], axis=1)
    kept: list[int] = []
    left = np.arange(len(rows))
    while len(left) and len(kept) < _MAX_DETECTIONS:
        best, left = left[0], left[1:]
        kept.append(int(best))
        low, high = np.maximum(shifted[best, :2], shifted[left, :2]), np.minimum(shifted[best, 2:], shifted[left, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        left = left[shared / (areas[best] + areas[left] - shared + 1e-9) <= _MAX_IOU]
    return rows[kept]


def measure(model: Path, scenes: int) -> dict[str, Any]:
    """MAP50-95 and mAP50 over scene seeds 0 to `scenes` - 1, and mAP50-95 of each class."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for seed in range(scenes):
        scene = training_scene(seed)
        images.append({"id": seed, "width": 320, "height": 320})
        for box, class_id in zip(scene.boxes_xyxy.tolist(), scene.class_ids.tolist(), strict=True):
            size = (box[2] - box[0], box[3] - box[1])
            entry = {"id": len(annotations) + 1, "image_id": seed, "category_id": class_id, "iscrowd": 0}
            annotations.append({**entry, "bbox": [*box[:2], *size], "area": size[0] * size[1]})
        for x0, y0, x1, y1, score, class_id in detect(session, scene.frame_bgr).tolist():
            box_xywh = [x0, y0, x1 - x0, y1 - y0]
            found.append({"image_id": seed, "category_id": int(class_id), "bbox": box_xywh, "score": score})
    truth = COCO()
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES)]
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    classes = {name: round(float(precision[..., index].mean()), 4) for index, name in enumerate(CLASS_NAMES)}
    return {
        "model": model.name,
        "scenes": scenes,
        "objects": len(annotations),
        "map": round(float(evaluation.stats[0]), 4),
        "map50": round(float(evaluation.stats[1]), 4),
        "classes": classes,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=_SHIPPED)
    parser.add_argument("--scenes", type=int, default=500)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.model, chosen.scenes), indent=2))
