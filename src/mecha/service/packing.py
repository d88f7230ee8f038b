"""Putting models into a bundle: all that another device needs to have them without a network."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mecha
from mecha.catalog.schema import CalibrationConfig, ModelCatalogEntry
from mecha.errors import ConfigError, DiskError, IntegrityError, NotFoundError, QuantizationError, UsageError
from mecha.progress import Progress
from mecha.project import Project
from mecha.service.calibration import calibration_on_disk
from mecha.service.provenance import entry_of
from mecha.service.turn import turn
from mecha.store.atomic import fsync_dir, sweep, unfinished_path
from mecha.store.blobs import BlobCache
from mecha.store.bundle import Written, bundle_bytes, write_bundle
from mecha.store.bundle_index import BundledModel, Content, Index
from mecha.store.digests import file_record
from mecha.store.faults import disk_error, require_space
from mecha.store.lockfile import LockedFile, LockFile
from mecha.store.manifest import ChosenCalibration, FileRecord
from mecha.store.models import ModelStore
from mecha.store.published import LABELS_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.words import counted

_LOCK_TIMEOUT_S = 600.0
# A person may have edited them, and means it.
_EDITABLE = frozenset({SPEC_FILE, LABELS_FILE})
_GONE = "no such file"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """A bundle that was written.

    Attributes:
        bundle: as the user named it, "-" for a stream.
        models: what is in it.
    """

    bundle: str
    sha256: str
    size_bytes: int
    models: tuple[BundledModel, ...]


class Packing:
    """Puts models of a project into a bundle.

    Args:
        cache: gives calibration photos and label files.
        lock_file: says which.
    """

    def __init__(
        self, project: Project, store: ModelStore, cache: BlobCache, lock_file: LockFile, progress: Progress
    ) -> None:
        self._project, self._store, self._cache, self._progress = project, store, cache, progress
        self._lock_file = lock_file
        self._sources: dict[str, Path] = {}

    def run(self, names: Iterable[str], out: Path | BinaryIO) -> ExportReport:
        """Write the models into a file, which appears whole or not at all, or into a stream.

        Raises:
            NotFoundError: one is not pulled, or was removed meanwhile, or there is no such folder.
            IntegrityError: one is broken.
            UsageError: `out` is a folder.
            BusyError: somebody works on one for ten minutes.
            DiskError: there is no space, or the bundle cannot be written.
        """
        if isinstance(out, Path):
            _require_writable(out)
        with ExitStack() as held:
            for name in sorted(set(names)):
                self._store.require(name)
                lock = self._store.lock_file(name)
                held.enter_context(turn(lock, f"export of {name}", self._progress, timeout_s=_LOCK_TIMEOUT_S))
            try:
                models = tuple(self._model(self._store.require(name)) for name in sorted(set(names)))
                contents = [content for model in models for content in self._contents(model)]
                index = Index(schema=1, mecha=mecha.__version__, models=models, files=tuple(dict.fromkeys(contents)))
                written = self._write(index, out)
            except (DiskError, IntegrityError):
                # A removal waits for nobody. Nothing comes back in its place while the locks are held.
                for name in sorted(set(names)):
                    self._store.require(name)
                raise
        return ExportReport(str(out) if isinstance(out, Path) else "-", written.sha256, written.size_bytes, models)

    def _write(self, index: Index, out: Path | BinaryIO) -> Written:
        if not isinstance(out, Path):
            return write_bundle(out, index, self._sources, Path("-"), self._progress)
        sweep(out.parent)
        require_space(out.parent, bundle_bytes(index), what=f"the bundle {out.name}")
        with _appearing(out) as file:
            return write_bundle(file, index, self._sources, out, self._progress)

    def _model(self, published: PublishedModel) -> BundledModel:
        _require_whole(self._store, published)
        files: dict[str, Content] = {}
        for name in sorted(published.manifest.files):
            record = _record(published.path / name)
            files[name] = Content(sha256=record.sha256, size_bytes=record.size_bytes)
            self._sources.setdefault(record.sha256, published.path / name)
        entry, chosen = _portable(entry_of(published, self._project), published, self._project.root)
        manifest = published.manifest
        if chosen is not None:
            manifest = manifest.model_copy(update={"int8": manifest.int8.model_copy(update={"chosen": chosen})})
        beside, left_out = self._beside(entry)
        if entry.label_file is not None and entry.label_file not in {item.filename for item in beside}:
            entry = entry.model_copy(update={"labels": published.spec.classes or None})
        return BundledModel(
            entry=entry,
            manifest=manifest,
            files=files,
            locked=(_locked(published, entry), *beside),
            left_out=(*left_out, *_unnamed(chosen or published.manifest.int8.chosen)),
        )

    def _beside(self, entry: ModelCatalogEntry) -> tuple[list[LockedFile], list[str]]:
        """Return the entries of mecha.lock about label file and photos, and what of the photos cannot be given."""
        pinned = {item.identity: item for item in self._lock_file.entries()}
        found: list[LockedFile] = []
        if entry.repo and entry.label_file is not None:
            item = pinned.get(("model", entry.repo, entry.label_file, entry.revision or "main"))
            if item is not None and self._given(item):
                found.append(item)
        calibration = entry.quantize.calibration
        if calibration is None or calibration.repo is None:
            return found, []
        wanted = [(calibration.repo_type, calibration.repo, file, "main") for file in calibration.files]
        photos = [pinned[identity] for identity in wanted if identity in pinned]
        lacking = len(wanted) - sum(self._given(item) for item in photos)
        left_out = [f"{counted(lacking, 'calibration photo')} of {calibration.repo}, not in the cache here"]
        return [*found, *photos], left_out if lacking else []

    def _given(self, item: LockedFile) -> bool:
        """Tell whether the cache has a file, and remember where."""
        if item.sha256 not in self._sources and (blob := self._cache.find(item.sha256)) is not None:
            self._sources[item.sha256] = blob
        return item.sha256 in self._sources

    def _contents(self, model: BundledModel) -> Iterator[Content]:
        yield from model.files.values()
        for item in model.locked:
            if item.sha256 in self._sources:
                yield Content(sha256=item.sha256, size_bytes=item.size_bytes)


def _portable(
    entry: ModelCatalogEntry, published: PublishedModel, root: Path
) -> tuple[ModelCatalogEntry, ChosenCalibration | None]:
    """Return an entry that holds on every device, and the calibration that it named on this one.

    A file of this device gets a name within the project. Photos of this device become what was chosen once: INT8 that
    was calibrated on them stays INT8 of this model, and another one is calibrated on scenes.
    """
    origin, quantize = published.manifest.origin, entry.quantize
    changed: dict[str, object] = {}
    if entry.path is not None:
        changed["path"] = _within_project(origin.filename, entry.name)
        changed["labels"] = (published.spec.classes or None) if entry.label_file else entry.labels
    elif origin.requested_revision != (entry.revision or "main"):
        changed["revision"] = origin.requested_revision
    if entry.license is None and published.manifest.licence != "unknown":
        changed["license"] = published.manifest.licence
    if entry.sha256 not in (None, published.manifest.files[MODEL_FILE].sha256):
        changed |= {"sha256": None, "size_bytes": None}
    chosen = None
    if quantize.calibration is not None and quantize.calibration.repo is None:
        changed["quantize"] = quantize.model_copy(update={"calibration": None})
        chosen = _as_chosen(quantize.calibration, published, root)
    return entry.model_copy(update=changed), chosen


def _as_chosen(calibration: CalibrationConfig, published: PublishedModel, root: Path) -> ChosenCalibration | None:
    if published.manifest.int8.chosen is not None or published.int8_path is None:
        return None
    source = calibration.path or calibration.data or calibration.list or ""
    with suppress(ConfigError, NotFoundError, QuantizationError):
        digest = calibration_on_disk(calibration, root).digest
        return ChosenCalibration(source=Path(source).name, samples=calibration.samples, digest=digest)
    return None


def _within_project(filename: str, name: str) -> str:
    """Return the path of a file from the root of a project; one outside of it is called as the model."""
    return f"{name}.onnx" if Path(filename).is_absolute() or ".." in Path(filename).parts else filename


def _locked(published: PublishedModel, entry: ModelCatalogEntry) -> LockedFile:
    """Return what mecha.lock says of model.onnx, by the manifest: a pull may have written more into the file since."""
    origin, record = published.manifest.origin, published.manifest.files[MODEL_FILE]
    return LockedFile(
        repo=origin.repo,
        repo_type="model" if entry.path is None else "file",
        filename=entry.path or origin.filename,
        requested=origin.requested_revision,
        revision=origin.revision,
        etag=origin.etag,
        sha256=record.sha256,
        size_bytes=record.size_bytes,
    )


def _unnamed(chosen: ChosenCalibration | None) -> tuple[str, ...]:
    return () if chosen is None else (f"the frames that INT8 was calibrated on ({chosen.source}), they stay here",)


def _require_whole(store: ModelStore, published: PublishedModel) -> None:
    faults = [fault for fault in store.verify(published.name) if fault.file not in _EDITABLE or fault.got == _GONE]
    if faults:
        lines = "; ".join(f"{fault.file}: {fault.got}, expected {fault.expected}" for fault in faults)
        raise IntegrityError(
            f"{published.name}: {lines}; a broken model is not exported",
            hint=f"`mecha models pull {published.name} --force` brings it again.",
        )


def _record(file: Path) -> FileRecord:
    try:
        return file_record(file)
    except OSError as error:
        raise disk_error(error, file, "read") from error


def _require_writable(out: Path) -> None:
    if out.is_dir():
        raise UsageError(f"-o {out}: is a folder; expected a file", hint=f"For example -o {out / 'bundle.tar'}.")
    if not out.parent.is_dir():
        raise NotFoundError(
            f"-o {out}: no folder {out.parent}", hint="Make it, or mount what it is on: no folder is made for a bundle."
        )


@contextmanager
def _appearing(out: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the name `out` when all went well, and is gone otherwise."""
    temporary = unfinished_path(out, "tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        raise disk_error(error, out, "write") from error
    finally:
        temporary.unlink(missing_ok=True)
    fsync_dir(out.parent)
