"""Mean average precision as COCO defines it, against annotated frames.

mAP is the mean over classes and over the IoU limits 0.50, 0.55 … 0.95 of the area under the interpolated curve of
precision over recall (Lin et al., "Microsoft COCO", 2014; computed by that dataset's own evaluation code, pycocotools).
Measure with a low score threshold, because every detection that is left out is one that could have been right.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detections import Detections
from mecha.detect.images import read_image
from mecha.errors import ConfigError, NotFoundError
from mecha.gate.instances import category_ids, read_instances
from mecha.gate.tally import CocoResult, CocoTally

# What the published figures of detectors are measured with.
EVAL_SCORE_THRESHOLD = 0.001
EVAL_IOU_THRESHOLD = 0.65
EVAL_MAX_DETECTIONS = 300

# Images whose detections are in memory at once, as the mappings that pycocotools wants: 300 of them take 0.2 MB.
_AT_ONCE = 100

Detect = Callable[[NDArray[np.uint8]], Detections]


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
    tally = CocoTally(ground_truth["categories"])
    tally.add(ground_truth["images"], ground_truth["annotations"], predictions)
    return tally.result()


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
        predictions += detect(annotated.frame).to_coco(image_id)
    truth = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": class_id, "name": f"class_{class_id}"} for class_id in sorted(categories)],
    }
    return evaluate(truth, predictions)


def evaluate_images(
    detect: Detect,
    instances: Path,
    images: Path,
    *,
    classes: Sequence[str],
    most: int | None = None,
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> CocoResult:
    """Run a detector over a COCO dataset on disk and return its accuracy.

    One image is in memory at a time, and the detections of at most a hundred.

    Args:
        detect: a `Detector`, or anything that is called like one.
        instances: the annotation file.
        images: the folder of the image files that it names.
        classes: the detector's class names; categories are found by name, and by position where no name is known.
        most: only the first so many images.
        on_image: called with the number of images that are done and of all.

    Raises:
        ConfigError: the annotation file is no COCO dataset, or has other classes, or no object on these images.
        NotFoundError: the annotation file or an image is missing.
        IntegrityError: an image cannot be decoded.
    """
    truth = read_instances(instances)
    category_of = category_ids(truth.categories, classes, where=str(instances))
    chosen = truth.images[:most]
    if not any(truth.annotations.get(image["id"]) for image in chosen):
        raise ConfigError(
            f"{instances}: got no annotated object on the {len(chosen)} images to measure; expected at least one"
        )
    _require(chosen, images)
    tally = CocoTally(truth.categories)
    for first in range(0, len(chosen), _AT_ONCE):
        part = chosen[first : first + _AT_ONCE]
        predictions: list[dict[str, Any]] = []
        for done, image in enumerate(part, start=first + 1):
            found = detect(read_image(images / image["file_name"]))
            predictions += found.to_coco(image["id"], category_of)
            on_image(done, len(chosen))
        tally.add(part, [item for image in part for item in truth.annotations.get(image["id"], ())], predictions)
    return tally.result()


def _require(chosen: Sequence[Mapping[str, Any]], images: Path) -> None:
    # Before the first is measured: nobody wants to learn after an hour that the last one is not there.
    missing = [image["file_name"] for image in chosen if not (images / image["file_name"]).is_file()]
    if missing:
        raise NotFoundError(
            f"{images / missing[0]}: no such file; {len(missing)} of {len(chosen)} images are not in {images}"
        )


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
