import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.detections import Detections
from mecha.detect.detector import Detector
from mecha.detect.images import write_image
from mecha.errors import ConfigError
from mecha.gate.coco import (
    EVAL_IOU_THRESHOLD,
    EVAL_SCORE_THRESHOLD,
    AnnotatedFrame,
    evaluate_frames,
    evaluate_images,
)
from mecha.gate.tally import CocoResult
from tests.detect.blob_detector import GREEN, RED, blob_detector, scene


def annotated(*squares: tuple[int, int, int, tuple[int, int, int]]) -> AnnotatedFrame:
    """A scene whose truth is what the blob detector gives for a square: one cell around its centre."""
    boxes = [[x - 4, y - 4, x + 12, y + 12] for x, y, _, _ in squares]
    ids = [0 if colour == RED else 1 for *_, colour in squares]
    return AnnotatedFrame(scene(*squares), np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(ids))


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    file = tmp_path / "blobs.onnx"
    file.write_bytes(blob_detector())
    return Detector(file, score_threshold=EVAL_SCORE_THRESHOLD, iou_threshold=EVAL_IOU_THRESHOLD, every_class=True)


def nothing(_: NDArray[np.uint8]) -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), ("red", "green"))


def test_a_detector_that_is_right_has_a_precision_of_one(
    detector: Detector, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate_frames(detector, [annotated((8, 8, 8, RED), (40, 24, 8, GREEN)), annotated((24, 40, 8, RED))])
    assert result.map > 0.99
    assert result.map50 == pytest.approx(1.0, abs=1e-6)
    assert capsys.readouterr().out == ""


def test_a_detector_that_finds_nothing_has_a_precision_of_zero() -> None:
    assert evaluate_frames(nothing, [annotated((8, 8, 8, RED))]) == CocoResult(0.0, 0.0)


def test_an_object_that_is_missed_and_a_class_that_is_confused_cost_precision(detector: Detector) -> None:
    truth = annotated((8, 8, 8, RED), (40, 24, 8, GREEN))
    confused = AnnotatedFrame(truth.frame, truth.boxes_xyxy, np.array([0, 0]))
    assert 0.4 < evaluate_frames(detector, [confused]).map50 < 0.6


def test_frames_without_an_object_cannot_be_measured(detector: Detector) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate_frames(detector, [annotated()])
    assert str(caught.value) == "ground truth: got no annotated object; expected at least one"


def dataset(folder: Path, names: tuple[str, ...] = ("green", "red")) -> Path:
    """Two images with a red and a green square, annotated as COCO does."""
    squares = {1: (8, 8, 8, RED), 2: (40, 24, 8, GREEN)}
    category_of = {"red": 70, "green": 7}
    ids = [category_of.get(name, 1 + position) for position, name in enumerate(names)]
    annotations: list[dict[str, Any]] = []
    for image_id, (x, y, side, colour) in squares.items():
        write_image(folder / f"{image_id}.png", scene((x, y, side, colour)))
        category = category_of["red" if colour == RED else "green"] if "red" in names else image_id
        box = [x - 4, y - 4, 16, 16]
        annotations.append(
            {"id": image_id, "image_id": image_id, "category_id": category, "bbox": box, "area": 256, "iscrowd": 0}
        )
    truth = {
        "images": [{"id": key, "file_name": f"{key}.png", "width": 64, "height": 64} for key in squares],
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in zip(ids, names, strict=True)],
    }
    file = folder / "instances.json"
    file.write_text(json.dumps(truth))
    return file


@pytest.mark.parametrize("names", [("green", "red"), ("rot", "grün")])
def test_categories_are_found_by_name_and_else_by_position(
    tmp_path: Path, detector: Detector, names: tuple[str, ...]
) -> None:
    result = evaluate_images(detector, dataset(tmp_path, names), tmp_path, classes=detector.spec.classes)
    assert result.map50 == pytest.approx(1.0, abs=1e-6)


def test_only_the_first_images_are_used_where_that_is_asked(tmp_path: Path, detector: Detector) -> None:
    file = dataset(tmp_path)
    (tmp_path / "2.png").unlink()
    assert evaluate_images(detector, file, tmp_path, classes=detector.spec.classes, most=1).map50 > 0.99


def test_other_classes_than_the_model_has_are_refused(tmp_path: Path, detector: Detector) -> None:
    file = dataset(tmp_path, ("a", "b", "c"))
    with pytest.raises(ConfigError) as caught:
        evaluate_images(detector, file, tmp_path, classes=detector.spec.classes)
    assert str(caught.value) == (
        f"{file}: got 3 categories, none with a name of the model's 2 classes; "
        "expected the same names or the same number"
    )


def test_progress_is_told_image_by_image(tmp_path: Path, detector: Detector) -> None:
    told: list[tuple[int, int]] = []
    evaluate_images(
        detector,
        dataset(tmp_path),
        tmp_path,
        classes=detector.spec.classes,
        on_image=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]


def test_images_without_an_object_cannot_be_measured(tmp_path: Path, detector: Detector) -> None:
    file = dataset(tmp_path)
    truth = json.loads(file.read_text())
    truth["annotations"] = truth["annotations"][1:]
    file.write_text(json.dumps(truth))
    with pytest.raises(ConfigError) as caught:
        evaluate_images(detector, file, tmp_path, classes=detector.spec.classes, most=1)
    assert str(caught.value) == f"{file}: got no annotated object on the 1 images to measure; expected at least one"


@pytest.mark.shared_data
def test_a_real_detector_is_as_precise_as_it_is_known_to_be(shared_data: Path) -> None:
    detector = Detector(
        shared_data / "models" / "yolov8n.onnx",
        score_threshold=EVAL_SCORE_THRESHOLD,
        iou_threshold=EVAL_IOU_THRESHOLD,
        every_class=True,
    )
    folder = shared_data / "coco" / "val"
    # Over all 94 images: 0.424 and 0.595.
    result = evaluate_images(detector, folder / "instances.json", folder, classes=detector.spec.classes, most=8)
    assert 0.3 < result.map < result.map50 < 0.9
