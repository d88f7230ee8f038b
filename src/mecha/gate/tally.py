"""COCO accuracy, gathered a few images at a time, so that a large dataset needs little memory."""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mecha.errors import ConfigError

# What accumulating needs of one image and one category; the rest would take most of the memory.
_KEPT = ("dtScores", "dtMatches", "dtIgnore", "gtIgnore")
_IOU_50 = 0


@dataclass(frozen=True, slots=True)
class CocoResult:
    """Accuracy, 0 to 1.

    Attributes:
        map: mean over IoU 0.50 to 0.95.
        map50: at IoU 0.50.
    """

    map: float
    map50: float


class CocoTally:
    """Takes annotations and predictions part by part, and gives the accuracy over all of them.

    Matching goes by image, so parts may be matched on their own; only the precision over recall needs all of them.

    Args:
        categories: mappings of id and name, of the whole dataset.
    """

    def __init__(self, categories: Iterable[Mapping[str, Any]]) -> None:
        self._categories = [dict(category) for category in categories]
        # One list a category, in the order of their ids; one item an image.
        self._matched: list[list[dict[str, Any] | None]] = [[] for _ in self._categories]
        self._objects = 0

    def add(
        self,
        images: Iterable[Mapping[str, Any]],
        annotations: Sequence[Mapping[str, Any]],
        predictions: Sequence[Mapping[str, Any]],
    ) -> None:
        """Match the predictions of some images with what is on them.

        Args:
            images: each image of the dataset may be given once.
            annotations: all that is on these images.
            predictions: COCO results of these images.
        """
        dataset: dict[str, Any] = {
            "images": list(images),
            "annotations": list(annotations),
            "categories": self._categories,
        }
        self._objects += len(annotations)
        # pycocotools reports its progress on standard output, which belongs to the caller.
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = _evaluation(dataset, predictions)
            evaluation.evaluate()
        count = len(evaluation.params.imgIds)
        for position, matched in enumerate(self._matched):
            part = evaluation.evalImgs[position * count : (position + 1) * count]
            matched += [{key: item[key] for key in _KEPT} if item else None for item in part]

    def result(self) -> CocoResult:
        """Return the accuracy over all that was added.

        Raises:
            ConfigError: there was no object, so that nothing can be measured.
        """
        if not self._objects:
            raise ConfigError("ground truth: got no annotated object; expected at least one")
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = _evaluation({"images": [], "annotations": [], "categories": self._categories}, [])
            evaluation.params.imgIds = list(range(len(self._matched[0])))
            evaluation._paramsEval = evaluation.params  # noqa: SLF001 - what `evaluate` would have set
            evaluation.evalImgs = [item for matched in self._matched for item in matched]
            evaluation.accumulate()
        precision = evaluation.eval["precision"]  # IoU limits, recalls, categories, areas, limits of detections
        return CocoResult(map=_mean(precision), map50=_mean(precision[_IOU_50]))


def _evaluation(dataset: dict[str, Any], predictions: Sequence[Mapping[str, Any]]) -> Any:  # noqa: ANN401 - untyped library
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = COCO(), COCO()
    truth.dataset = dataset
    results = [
        {**prediction, "id": number, "area": prediction["bbox"][2] * prediction["bbox"][3], "iscrowd": 0}
        for number, prediction in enumerate(predictions, start=1)
    ]
    found.dataset = {**dataset, "annotations": results}
    truth.createIndex()
    found.createIndex()
    evaluation = COCOeval(truth, found, "bbox")
    # Of the standard twelve figures two are wanted: all sizes of objects, at most 100 detections of a class an image.
    evaluation.params.areaRng = [evaluation.params.areaRng[0]]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.params.maxDets = [100]
    return evaluation


def _mean(precision: Any) -> float:  # noqa: ANN401 - untyped library
    # -1 stands for "no object of this kind".
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0
