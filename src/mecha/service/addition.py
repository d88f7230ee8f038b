"""A model of the user's own: an entry in the project's catalog, and the pull that proves that it works."""

import os.path
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mecha.catalog.catalog import load_catalog
from mecha.catalog.edit import with_entry
from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import ConfigError, NetworkError, NotFoundError, UsageError
from mecha.faults import KeyFault
from mecha.progress import Progress
from mecha.project import Project
from mecha.service.fetch import Fetcher, Wanted
from mecha.service.labels import names_in
from mecha.service.publication import Place
from mecha.service.pull import Pull
from mecha.service.report import PullReport
from mecha.service.request import PullOptions, wanted_file
from mecha.store.catalog_file import add_entry
from mecha.store.lockfile import LockFile
from mecha.store.published import BrokenModel
from mecha.validation import checked, read_text

_OPTIONS = {"preprocessing_preset": "--preset", "input_size": "--input-size"}
_LABEL_FILES = frozenset({".txt", ".names", ".csv"})
# An owner, a name, and a file in the repo.
_HUB_PARTS = 3


@dataclass(frozen=True, slots=True)
class Addition:
    """What the user says of a model, unchecked.

    Attributes:
        source: a file on this device, or owner/repo/path/to/file.onnx of the Hub.
        labels: a text file of one name a line, "coco", names between commas, or a label file in the repo.
        quantize: INT8 is made of it.
        method: how; None lets mecha choose.
    """

    source: str
    name: str
    description: str = ""
    family: str | None = None
    preset: str | None = None
    labels: str | None = None
    input_size: int | None = None
    licence: str | None = None
    revision: str | None = None
    quantize: bool = True
    method: str | None = None


def new_entry(addition: Addition, folder: Path, catalog_folder: Path) -> ModelCatalogEntry:
    """Return the entry as it is to be written into the catalog.

    Args:
        folder: relative paths start there.
        catalog_folder: a file in it is named by its path from there, so that the project can be moved.

    Raises:
        NotFoundError: there is no such file.
        UsageError: with all that cannot be said of a model.
    """
    source = _source(addition, folder, catalog_folder)
    stated: dict[str, Any] = {
        "name": addition.name,
        "description": addition.description,
        "preprocessing_preset": addition.preset,
        "revision": addition.revision,
        "license": addition.licence,
        "input_size": addition.input_size,
        "family": addition.family,
        "labels": None if addition.labels is None else _labels(addition.labels, folder, in_repo="repo" in source),
    }
    data = source | {key: value for key, value in stated.items() if value is not None}
    if addition.quantize:
        data["quantize"] = {"enabled": True, "method": addition.method or "auto"}
    entry, faults = checked(ModelCatalogEntry, data, line_of=lambda _: None)
    if entry is None:
        raise UsageError("\n".join(f"{_option(fault, addition.source)}: {fault.text}" for fault in faults))
    return entry


def add(
    entry: ModelCatalogEntry, project: Project, place: Place, lock_file: LockFile, fetcher: Fetcher, progress: Progress
) -> PullReport:
    """Pull a model and write its entry into the project's catalog; all is as it was when one of the two fails.

    Raises:
        UsageError: the name is taken.
        ConfigError: the catalog must be signed.
        MechaError: as the pull, and as the writing of the catalog.
    """
    file = project.catalog_file
    if project.catalog_key is not None:
        raise ConfigError(
            f"{file}: a catalog must be signed here (catalog.public_key, or MECHA_CATALOG_KEY), and mecha cannot sign "
            "it",
            hint="Write the entry where the secret key is, sign the catalog, and bring both files here.",
        )
    anchored = entry
    if entry.path is not None:
        anchored = entry.model_copy(update={"path": str(file.parent / entry.path)})
    wanted = wanted_file(anchored, PullOptions(), project.root)
    _require_free(entry.name, project, place, wanted)
    # Refused before anything is brought: faults of the catalog, and one that mecha cannot change.
    with_entry(read_text(file, where=str(file)) if file.exists() else "", entry, where=str(file))
    with ExitStack() as undo:
        undo.enter_context(_as_before(place, lock_file, entry.name))
        try:
            report = Pull(place, anchored, fetcher, PullOptions(), progress).run()
        except (NotFoundError, NetworkError) as error:
            if entry.path is not None:
                raise
            # Nobody can tell a misspelt path from the name of a repo.
            raise type(error)(f"{entry.where}: no such file here, and of the Hub: {error}", hint=error.hint) from error
        add_entry(file, entry)
        undo.pop_all()
    return report


def _as_before(place: Place, lock_file: LockFile, name: str) -> ExitStack:
    """Return what puts models and mecha.lock back when it is closed."""
    undo = ExitStack()
    known = {item.identity for item in lock_file.entries()}
    undo.callback(lambda: lock_file.drop({item.identity for item in lock_file.entries()} - known))
    if place.store.find(name) is None:
        undo.callback(lambda: place.store.remove(name) if place.store.find(name) is not None else None)
    return undo


def _require_free(name: str, project: Project, place: Place, wanted: Wanted) -> None:
    catalog = load_catalog(project)
    if name in catalog.origins:
        raise UsageError(
            f'--name: "{name}" is taken: {catalog.file_of(name)} has an entry of this name',
            hint=f"Take another name; `mecha models pull {name}` pulls the one that is there.",
        )
    found = place.store.find(name)
    if found is None:
        return
    origin = None if isinstance(found, BrokenModel) else found.manifest.origin
    if origin is None or (origin.repo, origin.filename) != (wanted.repo, wanted.filename):
        raise UsageError(
            f'--name: "{name}" is taken: {place.store.models_dir / name} holds a model that no catalog names',
            hint=f"Take another name; `mecha models remove {name}` removes the one that is there.",
        )


def _source(addition: Addition, folder: Path, catalog_folder: Path) -> dict[str, str]:
    text = addition.source
    # Without following links: a folder of the project that is a link stays a folder of the project.
    file = Path(os.path.normpath((folder / Path(text).expanduser()).absolute()))
    if file.is_file():
        if addition.revision is not None:
            raise UsageError(f"--revision: got {addition.revision}; {text} is a file on this device, which has none")
        inside = file.is_relative_to(catalog_folder)
        return {"path": (file.relative_to(catalog_folder) if inside else file).as_posix()}
    parts = PurePosixPath(text).parts
    is_path = text.startswith((".", "/", "~")) or "\\" in text or "://" in text or len(parts) < _HUB_PARTS
    if is_path or file.exists():
        what = "a folder" if file.is_dir() else "no such file"
        raise NotFoundError(f"{text}: {what}; expected an ONNX file, or owner/repo/path/to/file.onnx of the Hub")
    return {"repo": "/".join(parts[:2]), "filename": "/".join(parts[2:])}


def _labels(text: str, folder: Path, *, in_repo: bool) -> list[str] | str:
    if text == "coco":
        return text
    file = folder / Path(text).expanduser()
    if file.is_file():
        return list(names_in(file, f"--labels {text}"))
    if "," in text:
        return [name.strip() for name in text.split(",")]
    if "/" not in text and PurePosixPath(text).suffix not in _LABEL_FILES:
        return [text]
    if in_repo:
        return text
    raise NotFoundError(
        f"--labels: {text}: no such file; expected a text file of one class name a line, coco, or names: cone,ball"
    )


def _option(fault: KeyFault, source: str) -> str:
    """Return what the user wrote that a fault of an entry is about."""
    key = [part for part in fault.path if isinstance(part, str)][-1]
    return source if key in {"repo", "filename", "path"} else _OPTIONS.get(key, f"--{key}")
