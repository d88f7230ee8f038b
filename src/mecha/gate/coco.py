"""Mean average precision as COCO defines it, against annotated frames.

mAP is the mean over classes and over the IoU limits 0.50, 0.55 … 0.95 of the area under the interpolated curve of
precision over recall (Lin et al., "Microsoft COCO", 2014; computed by that dataset's own evaluation code, pycocotools).
Measure with a low score threshold, because every detection that is left out is one that could have been right.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detections import Detections
from mecha.detect.images import read_image
from mecha.errors import ConfigError, DiskError

# What the published figures of detectors are measured with.
EVAL_SCORE_THRESHOLD = 0.001
EVAL_IOU_THRESHOLD = 0.65
EVAL_MAX_DETECTIONS = 300

Detect = Callable[[NDArray[np.uint8]], Detections]


@dataclass(frozen=True, slots=True)
class CocoResult:
    """Accuracy, 0 to 1.

    Attributes:
        map: mean over IoU 0.50 to 0.95.
        map50: at IoU 0.50.
    """

    map: float
    map50: float


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedFrame:
    """A frame and what is on it.

    Attributes:
        frame: (H, W, 3) uint8 BGR.
        boxes_xyxy: (N, 4) x1 y1 x2 y2 in pixels.
        class_ids: (N,) integers.
    """

    frame: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.floating[Any]]
    class_ids: NDArray[np.integer[Any]]


def evaluate(ground_truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> CocoResult:
    """Compare predictions with annotations.

    Args:
        ground_truth: an `instances` mapping of COCO: images, annotations, categories.
        predictions: mappings of image_id, category_id, bbox [x, y, width, height] and score.

    Raises:
        ConfigError: the ground truth holds no object, so that nothing can be measured.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not ground_truth["annotations"]:
        raise ConfigError("ground truth: got no annotated object; expected at least one")
    if not predictions:
        return CocoResult(0.0, 0.0)
    # pycocotools reports its progress on standard output, which belongs to the caller.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(ground_truth)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(prediction) for prediction in predictions]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # -1 stands for "no object of this kind".
    return CocoResult(map=max(0.0, float(evaluation.stats[0])), map50=max(0.0, float(evaluation.stats[1])))


def evaluate_frames(detect: Detect, frames: Iterable[AnnotatedFrame]) -> CocoResult:
    """Run a detector over annotated frames, the arena's scenes for example, and return its accuracy.

    Args:
        detect: a `Detector`, or anything that is called like one.

    Raises:
        ConfigError: there is no object on any frame.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    categories: set[int] = set()
    for image_id, annotated in enumerate(frames, start=1):
        height, width = annotated.frame.shape[:2]
        images.append({"id": image_id, "width": width, "height": height})
        for box, class_id in zip(annotated.boxes_xyxy, annotated.class_ids, strict=True):
            annotations.append(_annotation(len(annotations) + 1, image_id, int(class_id), box))
            categories.add(int(class_id))
        predictions += predictions_of(detect(annotated.frame), image_id)
    truth = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": class_id, "name": f"class_{class_id}"} for class_id in sorted(categories)],
    }
    return evaluate(truth, predictions)


def evaluate_images(
    detect: Detect, instances: Path, images: Path, *, classes: Sequence[str], most: int | None = None
) -> CocoResult:
    """Run a detector over a COCO dataset on disk and return its accuracy.

    Args:
        detect: a `Detector`, or anything that is called like one.
        instances: the annotation file.
        images: the folder of the image files that it names.
        classes: the detector's class names; categories are found by name, and by position where no name is known.
        most: only the first so many images.

    Raises:
        ConfigError: the annotation file is no COCO dataset, or has other classes.
        NotFoundError: an image is missing.
        IntegrityError: an image cannot be decoded.
    """
    truth = _read_instances(instances)
    category_of = _category_ids(truth["categories"], classes, where=str(instances))
    chosen = truth["images"][:most]
    ids = {image["id"] for image in chosen}
    predictions: list[dict[str, Any]] = []
    for image in chosen:
        found = detect(read_image(images / image["file_name"]))
        for prediction in predictions_of(found, image["id"]):
            category = category_of.get(prediction["category_id"])
            if category is not None:
                predictions.append({**prediction, "category_id": category})
    annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in ids]
    return evaluate({**truth, "images": chosen, "annotations": annotations}, predictions)


def predictions_of(found: Detections, image_id: int) -> list[dict[str, Any]]:
    """Return detections of one image as COCO results; category_id is the class id."""
    x1, y1, x2, y2 = found.boxes_xyxy.astype(np.float64).T
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
    return [
        {"image_id": image_id, "category_id": int(class_id), "bbox": box.tolist(), "score": float(score)}
        for box, class_id, score in zip(boxes, found.class_ids, found.scores, strict=True)
    ]


def _annotation(number: int, image_id: int, class_id: int, box: NDArray[np.floating[Any]]) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": class_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
    }


def _read_instances(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DiskError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: got text that is no JSON: {error}; expected COCO annotations") from error
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(data, dict) or key not in data]
    if missing:
        raise ConfigError(
            f"{path}: got no {', '.join(missing)}; expected COCO annotations: images, annotations, categories"
        )
    return dict(data)


def _category_ids(categories: Sequence[Mapping[str, Any]], classes: Sequence[str], *, where: str) -> dict[int, int]:
    """Return the dataset's category id by the detector's class id."""
    by_name = {category["name"]: int(category["id"]) for category in categories}
    found = {class_id: by_name[name] for class_id, name in enumerate(classes) if name in by_name}
    if found:
        return found
    if len(categories) != len(classes):
        raise ConfigError(
            f"{where}: got {len(categories)} categories, none with a name of the model's {len(classes)} classes; "
            "expected the same names or the same number"
        )
    return dict(enumerate(sorted(by_name.values())))
