import json
from pathlib import Path
from typing import Any

import pytest

from mecha.errors import ConfigError, DiskError, NotFoundError
from mecha.gate.instances import category_ids, read_instances

IMAGE = {"id": 1, "file_name": "1.png"}
OBJECT = {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}
CATEGORY = {"id": 7, "name": "green"}


def written(folder: Path, data: object) -> Path:
    file = folder / "instances.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return file


def test_annotations_are_kept_by_image_without_their_outlines(tmp_path: Path) -> None:
    data = {
        "info": {},
        "images": [IMAGE],
        "annotations": [{**OBJECT, "segmentation": [[1, 2, 3]], "iscrowd": 1}],
        "categories": [CATEGORY],
    }
    truth = read_instances(written(tmp_path, data))
    assert truth.annotations == {
        1: ({"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 1},)
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[]", "got no images, annotations, categories; expected COCO annotations: images, annotations, categories"),
        ({"images": []}, "got no annotations, categories; expected COCO annotations: images, annotations, categories"),
        (
            {"images": 3, "annotations": [], "categories": []},
            "got no images; expected COCO annotations: images, annotations, categories",
        ),
        (
            '{"images": [',
            "got text that is no JSON: Expecting value: line 1 column 13 (char 12); expected COCO annotations",
        ),
        ({"images": [], "annotations": [], "categories": []}, "images: got none; expected at least one"),
        (
            {"images": ["1.png"], "annotations": [], "categories": []},
            'images[0]: got "1.png"; expected a JSON object',
        ),
        (
            {"images": [IMAGE, {"id": 2}], "annotations": [], "categories": []},
            "images[1].file_name: got nothing; expected a text",
        ),
        (
            {"images": [IMAGE], "annotations": [OBJECT, {**OBJECT, "bbox": [1, 2, 3]}], "categories": [CATEGORY]},
            "annotations[1].bbox: got [1, 2, 3]; expected [x, y, width, height]",
        ),
        (
            {"images": [IMAGE], "annotations": [OBJECT], "categories": [{**CATEGORY, "id": "7"}]},
            'categories[0].id: got "7"; expected a number',
        ),
    ],
)
def test_a_file_that_is_no_dataset_is_refused_with_the_place(tmp_path: Path, data: Any, message: str) -> None:
    file = written(tmp_path, data)
    with pytest.raises(ConfigError) as caught:
        read_instances(file)
    assert str(caught.value) == f"{file}: {message}"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    file.write_bytes(b"\xff\xd8\xff\xe0 a photo")
    with pytest.raises(ConfigError, match="got text that is no JSON"):
        read_instances(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_instances(tmp_path / "a.json")
    assert str(caught.value) == f"{tmp_path / 'a.json'}: no such file; expected COCO annotations"


def test_a_folder_is_no_annotation_file(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be read"):
        read_instances(tmp_path)


def test_classes_are_found_by_name_wherever_one_is_known() -> None:
    categories = [{"id": 70, "name": "red"}, {"id": 7, "name": "green"}]
    assert category_ids(categories, ("green", "blue", "red"), where="x") == {0: 7, 2: 70}
