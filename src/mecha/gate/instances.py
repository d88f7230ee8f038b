"""COCO annotations in a file: read, checked, and matched with the classes of a model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mecha.errors import ConfigError, DiskError, NotFoundError

_LISTS = ("images", "annotations", "categories")
_NUMBER, _TEXT, _BOX = "a number", "a text", "[x, y, width, height]"
# What each item must hold; pycocotools would end on a KeyError.
_KEYS: Mapping[str, Mapping[str, str]] = {
    "images": {"id": _NUMBER, "file_name": _TEXT},
    "annotations": {"image_id": _NUMBER, "category_id": _NUMBER, "bbox": _BOX},
    "categories": {"id": _NUMBER, "name": _TEXT},
}


@dataclass(frozen=True, slots=True)
class Instances:
    """The annotations of a dataset.

    Attributes:
        images: mappings of at least id and file_name.
        annotations: mappings of id, image_id, category_id, bbox, area and iscrowd, by image id.
        categories: mappings of at least id and name.
    """

    images: tuple[Mapping[str, Any], ...]
    annotations: Mapping[int, tuple[Mapping[str, Any], ...]]
    categories: tuple[Mapping[str, Any], ...]


def read_instances(path: Path) -> Instances:
    """Read an `instances` file of COCO; outlines of objects are left out.

    Raises:
        NotFoundError: no such file.
        DiskError: it cannot be read.
        ConfigError: it is no JSON, or no such dataset; the message says where.
    """
    try:
        # A dataset's outlines take ten times the memory of its boxes, and nobody needs them here.
        data = json.loads(path.read_bytes(), object_hook=_without_outline)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; expected COCO annotations") from error
    except OSError as error:
        raise DiskError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: got text that is no JSON: {error}; expected COCO annotations") from error
    missing = [key for key in _LISTS if not isinstance(data, dict) or not isinstance(data.get(key), list)]
    if missing:
        raise ConfigError(
            f"{path}: got no {', '.join(missing)}; expected COCO annotations: images, annotations, categories"
        )
    for key in _LISTS:
        _check(data[key], key, where=str(path))
    if not data["images"]:
        raise ConfigError(f"{path}: images: got none; expected at least one")
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for number, item in enumerate(data["annotations"], start=1):
        by_image.setdefault(item["image_id"], []).append(_annotation(item, number))
    return Instances(
        images=tuple(data["images"]),
        annotations={image: tuple(items) for image, items in by_image.items()},
        categories=tuple(data["categories"]),
    )


def category_ids(categories: Sequence[Mapping[str, Any]], classes: Sequence[str], *, where: str) -> dict[int, int]:
    """Return the dataset's category id by the detector's class id: by name, and by position where no name is known.

    Raises:
        ConfigError: the dataset has other classes.
    """
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


def _without_outline(item: dict[str, Any]) -> dict[str, Any]:
    item.pop("segmentation", None)
    return item


def _annotation(item: Mapping[str, Any], number: int) -> dict[str, Any]:
    _, _, width, height = item["bbox"]
    return {
        "id": number,
        "image_id": item["image_id"],
        "category_id": item["category_id"],
        "bbox": item["bbox"],
        "area": item.get("area", width * height),
        "iscrowd": item.get("iscrowd", 0),
    }


def _check(items: Sequence[object], key: str, *, where: str) -> None:
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise ConfigError(f"{where}: {key}[{index}]: got {_shown(item)}; expected a JSON object")
        for name, kind in _KEYS[key].items():
            if not _is(item.get(name), kind):
                got = _shown(item[name]) if name in item else "nothing"
                raise ConfigError(f"{where}: {key}[{index}].{name}: got {got}; expected {kind}")


def _is(value: object, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _NUMBER:
        return isinstance(value, int)
    return isinstance(value, list) and len(value) == 4 and all(isinstance(side, int | float) for side in value)  # noqa: PLR2004 - a box


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004 - a message stays on one line
