import contextlib
import io
from typing import Any

import numpy as np
import pytest

from mecha.errors import ConfigError
from mecha.gate.coco import evaluate
from mecha.gate.tally import CocoResult, CocoTally

CATEGORIES = [{"id": 3, "name": "a"}, {"id": 1, "name": "b"}, {"id": 90, "name": "never"}]


def boxes(random: np.random.Generator, count: int) -> list[list[float]]:
    return [[*(random.random(2) * 400).tolist(), *(random.random(2) * 90 + 5).tolist()] for _ in range(count)]


def random_dataset(seed: int, images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects, some of them crowds and some images without any, and predictions that hit about half of them."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for box in boxes(random, int(random.integers(0, 7))):
            category = int(random.choice([1, 3]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(random.random() < 0.1),
                }
            )
            if random.random() < 0.6:
                moved = (np.array(box) + random.normal(0, 4, 4)).clip(1).tolist()
                predictions.append(
                    {"image_id": image, "category_id": category, "bbox": moved, "score": float(random.random())}
                )
        predictions += [
            {"image_id": image, "category_id": int(random.choice([1, 3])), "bbox": box, "score": float(random.random())}
            for box in boxes(random, int(random.integers(0, 130 if image == 1 else 4)))
        ]
    truth = {"images": [{"id": image} for image in range(1, images + 1)], "annotations": annotations}
    return {**truth, "categories": CATEGORIES}, predictions


def by_pycocotools(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> tuple[float, float]:
    """What the library says when it is used as its own example shows."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = truth
        dataset.createIndex()
        evaluation = COCOeval(dataset, dataset.loadRes([dict(item) for item in predictions]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_parts_give_what_pycocotools_gives_for_the_whole(seed: int, at_once: int) -> None:
    truth, predictions = random_dataset(seed, images=12)
    tally = CocoTally(CATEGORIES)
    for first in range(1, 13, at_once):
        part = range(first, min(13, first + at_once))
        tally.add(
            [image for image in truth["images"] if image["id"] in part],
            [item for item in truth["annotations"] if item["image_id"] in part],
            [item for item in predictions if item["image_id"] in part],
        )
    expected_map, expected_map50 = by_pycocotools(truth, predictions)
    result = tally.result()
    assert result.map == pytest.approx(expected_map, abs=1e-9)
    assert result.map50 == pytest.approx(expected_map50, abs=1e-9)
    assert 0 < result.map < result.map50 < 1
    assert result == evaluate(truth, predictions)


def test_objects_without_a_prediction_give_zero() -> None:
    truth, _ = random_dataset(1, images=3)
    assert evaluate(truth, []) == CocoResult(0.0, 0.0)


def test_without_an_object_nothing_can_be_measured() -> None:
    with pytest.raises(ConfigError) as caught:
        CocoTally(CATEGORIES).result()
    assert str(caught.value) == "ground truth: got no annotated object; expected at least one"
