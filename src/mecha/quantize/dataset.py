"""An Ultralytics dataset file: YAML with `path`, `train`, `val` and `test`, of which the photos are taken.

`names` and the other keys are passed over; `download` is never run. Calibration takes `train`, because accuracy is
measured on `val`; `val`, then `test`, only where the file names no other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mecha.detect.images import IMAGE_SUFFIXES
from mecha.errors import ConfigError, NotFoundError
from mecha.faults import KeyFault
from mecha.positions import KeyPath, LineOf
from mecha.quantize.listing import Listing, is_there, listed_photos
from mecha.validation import Expected, Frozen, config_error, read_text, validated

DATASET_SUFFIXES = frozenset({".yaml", ".yml"})
_SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
_Split = Annotated[
    str | tuple[str, ...] | None, Expected("a folder of photos, a photo, a text file of paths, or a list of those")
]


class _Dataset(Frozen):
    path: Annotated[str | None, Expected("a folder")] = None
    train: _Split = None
    val: _Split = None
    test: _Split = None


@dataclass(frozen=True, slots=True)
class DatasetPhotos:
    """The photos of one part of a dataset: "train", "val" or "test"."""

    split: str
    listing: Listing


def dataset_photos(file: Path, project: Path) -> DatasetPhotos:
    """Return the photos of a dataset file that INT8 is calibrated on.

    Args:
        file: `path` in it is relative to its folder; where that is not there, to `project`. The parts are relative to
            `path`.
        project: the project's folder.

    Raises:
        NotFoundError: there is no such file.
        DiskError: it, or a text file that it names, cannot be read.
        ConfigError: it is no YAML, its keys have faults, or what they name is not there.
        QuantizationError: a text file of paths, as in `listed_photos`.
    """
    where = str(file)
    if not file.is_file():
        raise NotFoundError(
            f"{where}: no such file; expected a dataset file of Ultralytics", hint="Its name ends in .yaml or .yml."
        )
    data, line_of = _parsed(read_text(file, where=where), where)
    keys = ("path", *_SPLITS)
    dataset = validated(_Dataset, {key: _flat(data[key]) for key in keys if key in data}, where=where, line_of=line_of)
    split = next((key for key in _SPLITS if getattr(dataset, key)), None)
    if split is None:
        raise ConfigError(
            f"{where}: got no train, val or test; expected one of them, the photos of the dataset",
            hint="Name a folder of photos by itself where there is no dataset.",
        )
    hint = "Bring the photos there, or correct the path."
    if "download" in data:
        hint = "`download` in a dataset file is never run: bring the photos there yourself, or correct the path."
    try:
        return DatasetPhotos(split, _photos_of(dataset, split, file, project, line_of))
    except ConfigError as error:
        raise ConfigError(str(error), hint=error.hint or hint) from error


def _flat(value: object) -> object:
    """Return a value without what lies deeper than a list: an alias can make that endless."""
    if isinstance(value, list):
        return [[] if isinstance(item, list | dict | set | tuple) else item for item in value]
    return {} if isinstance(value, dict | set | tuple) else value


def _photos_of(dataset: _Dataset, split: str, file: Path, project: Path, line_of: LineOf) -> Listing:
    root = _root(dataset, file, project, line_of)
    value = getattr(dataset, split)
    listing, faults = Listing((), 0), []
    for index, name in enumerate([value] if isinstance(value, str) else value):
        key: KeyPath = (split,) if isinstance(value, str) else (split, index)
        found = _there(root, name)
        if found is None:
            text = f'got "{name}"; expected a folder, a photo or a text file of paths: {root / name} is not there'
            faults.append(KeyFault(key, line_of(key), text))
        elif found.is_file() and found.suffix.lower() not in IMAGE_SUFFIXES:
            listing = listing.joined(listed_photos(found, root))
        else:
            listing = listing.joined(Listing((found,), 1))
    if faults:
        raise config_error(str(file), faults)
    return listing


def _root(dataset: _Dataset, file: Path, project: Path, line_of: LineOf) -> Path:
    if dataset.path is None:
        return file.parent
    candidates = tuple(dict.fromkeys(folder / Path(dataset.path).expanduser() for folder in (file.parent, project)))
    for folder in candidates:
        if is_there(folder) and folder.is_dir():
            return folder
    nowhere = f"{candidates[0]} is no folder"
    if len(candidates) > 1:
        nowhere = f"neither {candidates[0]} nor {candidates[1]} is a folder"
    text = f'got "{dataset.path}"; expected the folder of the dataset: {nowhere}'
    raise config_error(str(file), [KeyFault(("path",), line_of(("path",)), text)])


def _there(root: Path, name: str) -> Path | None:
    """Return what a part of the dataset names, None when it is not there.

    Exports of annotation services say `../train/images` and put it beside the file.
    """
    for relative in (name, name.removeprefix("../")):
        path = root / Path(relative).expanduser()
        if is_there(path):
            return path
    return None


def _parsed(text: str, where: str) -> tuple[dict[str, Any], LineOf]:
    """Return the keys of a YAML text, and the function that gives their lines."""
    import yaml  # type: ignore[import-untyped]  # PyYAML ships no types

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Control characters; a date such as 2025-99-99; thousands of nested brackets.
        raise ConfigError(f"{where}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        got = "an empty file" if node is None else f"a {node.id}"
        raise ConfigError(
            f"{where}: got {got}; expected keys with values: path, train, val", hint="See docs/catalog.md."
        )
    lines: dict[KeyPath, int] = {}
    for key, value in node.value:
        lines[(key.value,)] = key.start_mark.line + 1
        for index, item in enumerate(value.value if value.id == "sequence" else ()):
            lines[(key.value, index)] = item.start_mark.line + 1
    return data, lines.get
