"""`mecha models eval` as a user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.service.conftest import Bench

from mecha.arena.labels import CLASS_NAMES
from mecha.arena.scene import ArenaCamera
from mecha.detect.images import write_image


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of arena scenes with their truth as COCO annotations."""
    folder = tmp_path_factory.mktemp("photos")
    images, annotations = [], []
    for number in range(1, 5):
        scene = ArenaCamera(number, 320, 240).scene(number)
        write_image(folder / f"{number}.png", scene.frame_bgr)
        images.append({"id": number, "file_name": f"{number}.png"})
        for box, class_id in zip(scene.boxes_xyxy.tolist(), scene.class_ids.tolist(), strict=True):
            x1, y1, x2, y2 = box
            annotations.append({"image_id": number, "category_id": class_id + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)]
    write(folder, {"images": images, "annotations": annotations, "categories": categories})
    return folder


def write(folder: Path, truth: dict[str, Any]) -> Path:
    file = folder / "instances.json"
    file.write_text(json.dumps(truth))
    return file


def evaluated(bench: Bench, photos: Path, *options: str) -> dict[str, Any]:
    data = ("--data", str(photos / "instances.json"), "--images", str(photos))
    done = bench.command("models", "eval", "arena", *data, "--json", *options)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_both_precisions_are_measured_on_the_same_photos(pulled: Bench, photos: Path) -> None:
    result = evaluated(pulled, photos)
    assert list(result) == ["schema", "name", "images", "fp32", "int8", "relative_drop"]
    assert (result["schema"], result["name"], result["images"]) == (1, "arena", 4)
    for precision in ("fp32", "int8"):
        assert list(result[precision]) == ["map", "map50"]
        assert 0.2 < result[precision]["map"] < result[precision]["map50"] <= 1
    fp32, int8 = result["fp32"]["map"], result["int8"]["map"]
    assert result["relative_drop"] == pytest.approx((fp32 - int8) / fp32, abs=1e-3)


def test_people_get_a_table_and_plain_progress(pulled: Bench, photos: Path) -> None:
    data = ("--data", str(photos / "instances.json"), "--images", str(photos))
    done = pulled.command("models", "eval", "arena", *data, "--limit", "2")
    first, head, fp32, int8, drop = done.stdout.splitlines()
    assert first == "arena on 2 images"
    assert head.split() == ["mAP50-95", "mAP50"]
    assert (fp32.split()[0], int8.split()[0]) == ("FP32", "INT8")
    assert drop.endswith("of FP32's mAP50-95")
    assert "evaluating FP32 1 of 2" in done.stderr
    assert "evaluating INT8 2 of 2, " in done.stderr


def test_without_int8_fp32_is_measured_alone(pulled: Bench, photos: Path) -> None:
    (pulled.root / "models/arena/model-int8.onnx").unlink()
    result = evaluated(pulled, photos, "--limit", "1")
    assert result["int8"] is None
    assert result["relative_drop"] is None


@pytest.mark.parametrize(
    ("data", "images", "code", "message"),
    [
        ("nothing.json", ".", 4, "error: nothing.json: no such file; expected COCO annotations\n"),
        (
            "instances.json",
            "nowhere",
            4,
            "error: nowhere: no such folder; expected the photos that instances.json names\n",
        ),
        ("instances.json", ".", 4, "error: a.png: no such file; 1 of 1 images are not in .\n"),
    ],
    ids=["no annotations", "no folder", "no photo"],
)
def test_what_is_missing_is_named(pulled: Bench, data: str, images: str, code: int, message: str) -> None:
    truth = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "ball"}],
    }
    write(pulled.root, truth)
    done = pulled.command("models", "eval", "arena", "--data", data, "--images", images)
    assert (done.returncode, done.stderr, done.stdout) == (code, message, "")


def test_annotations_of_other_classes_are_refused(pulled: Bench) -> None:
    truth = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": [{"id": 1, "name": "dog"}]}
    write(pulled.root, truth)
    done = pulled.command("models", "eval", "arena", "--data", "instances.json", "--images", ".")
    assert done.returncode == 3
    assert done.stderr == (
        "error: instances.json: got 1 categories, none with a name of the model's 4 classes; "
        "expected the same names or the same number\n"
    )
