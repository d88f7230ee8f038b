"""mecha.lock of a project: which files a catalog entry needs, what is locked of them, and pulls that keep to it."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mecha.catalog.catalog import load_catalog
from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import ConfigError, DiskError, UsageError
from mecha.project import CATALOG_NAME, Project
from mecha.service.fetch import Wanted
from mecha.service.report import Version
from mecha.service.request import PullOptions, wanted_file, wanted_int8
from mecha.store.lockfile import DeferredLock, FrozenLock, LockedFile, LockFile
from mecha.store.published import MODEL_FILE, PublishedModel

_OFF = frozenset({"", "0", "false", "no", "off"})
_REMEDY = "pull without --frozen where the project is kept, and commit mecha.lock."


def is_frozen(environ: Mapping[str, str]) -> bool:
    """Tell whether MECHA_FROZEN asks that mecha.lock stays as it is, for every command."""
    return environ.get("MECHA_FROZEN", "").strip().lower() not in _OFF


def refuse_frozen(environ: Mapping[str, str], command: str) -> None:
    """Refuse a command whose purpose is to change mecha.lock.

    Raises:
        UsageError: MECHA_FROZEN is set.
    """
    if is_frozen(environ):
        raise UsageError(
            f"{command}: MECHA_FROZEN is {environ['MECHA_FROZEN']}, so mecha.lock must not change; expected it unset",
            hint=f"Run `{command}` where the project is kept, commit mecha.lock, and run `mecha models pull` here.",
        )


def project_lock(project: Project, *, frozen: bool = False) -> LockFile:
    """Return mecha.lock of a project."""
    return (FrozenLock if frozen else LockFile)(*_places(project))


def deferred_lock(project: Project, pins: tuple[LockedFile, ...] = ()) -> DeferredLock:
    """Return mecha.lock of a project as it will be; what is put is not written."""
    return DeferredLock(*_places(project), pins)


def needed_files(entry: ModelCatalogEntry, options: PullOptions, project: Project) -> tuple[Wanted, ...]:
    """Return every file that a pull brings: the model, its label file, and photos of a repo that INT8 is made from."""
    model, quantize = wanted_file(entry, options, project.root), wanted_int8(entry, options)
    files = [model]
    if entry.label_file is not None and model.file is None:
        files.append(Wanted(repo=model.repo, filename=entry.label_file, revision=model.revision))
    photos = quantize.calibration if quantize is not None else None
    if photos is not None and photos.repo is not None:
        files += [Wanted(repo=photos.repo, filename=file, repo_type=photos.repo_type) for file in photos.files]
    return tuple(files)


def require_locked(
    entry: ModelCatalogEntry, options: PullOptions, project: Project, published: PublishedModel | None
) -> None:
    """Refuse a pull of anything that mecha.lock does not name, before a byte is brought.

    Raises:
        ConfigError: catalog and mecha.lock disagree; the message names both.
    """
    locked = project_lock(project).entries()
    files = needed_files(entry, options, project)
    if published is not None and published.manifest.int8.chosen is not None:
        # Calibrated on frames of this device, so no photos are brought.
        files = tuple(file for file in files if file.repo_type == "model")
    for wanted in files:
        same = [pin for pin in locked if (pin.repo_type, pin.repo, pin.filename) == _file_of(wanted)]
        pin = next((pin for pin in same if pin.requested == wanted.revision), None)
        where, at = f"mecha.lock: got {wanted.where}", f" at {wanted.revision}" if wanted.revision else ""
        asks = "as --revision asks" if options.revision else f"as {_catalog_of(entry, project)} asks for {entry.name}"
        if pin is None and same:
            others = " and ".join(sorted(pin.requested for pin in same))
            raise ConfigError(
                f"{where} at {others}; expected it{at}, {asks}",
                hint=f"Set the revision to {others}, or {_REMEDY}",
            )
        if pin is None:
            raise ConfigError(
                f"mecha.lock: got no entry for {wanted.where}; expected one{at}, {asks}",
                hint=f"{_REMEDY[0].upper()}{_REMEDY[1:]}",
            )
        if wanted.sha256 is not None and wanted.sha256 != pin.sha256:
            raise ConfigError(
                f"{where}{at} with sha256 {pin.sha256}; expected {wanted.sha256}, {asks}",
                hint=f"Correct sha256 in the catalog, or {_REMEDY}",
            )


def pins_of(published: PublishedModel, locked: tuple[LockedFile, ...] = ()) -> tuple[LockedFile, ...]:
    """Return what mecha.lock says of the files that a published model was made from.

    Args:
        locked: entries that may stand in where the manifest was written by an earlier version, which noted the model
            file only.
    """
    manifest = published.manifest
    if manifest.pins:
        return manifest.pins
    origin, record = manifest.origin, manifest.files[MODEL_FILE]
    model = LockedFile(
        repo=origin.repo,
        repo_type="file" if origin.kind == "file" else "model",
        filename=origin.filename,
        requested=origin.requested_revision,
        revision=origin.revision,
        etag=origin.etag,
        sha256=record.sha256,
        size_bytes=record.size_bytes,
    )
    return (model, *(pin for pin in locked if pin.identity != model.identity))


def version_of(published: PublishedModel) -> Version:
    """Return which version of a model is published."""
    origin, record = published.manifest.origin, published.manifest.files[MODEL_FILE]
    return Version(origin.revision, record.sha256, record.size_bytes)


def note_missing(published: PublishedModel, lock_file: LockFile) -> None:
    """Write into mecha.lock what it lacks of a published model; what it has stays.

    Raises:
        ConfigError, BusyError: as `LockFile.put`.
    """
    known = {pin.identity for pin in lock_file.entries()}
    missing = [pin for pin in pins_of(published) if pin.identity not in known]
    if missing:
        # A model that is complete can be used where nothing can be written, too.
        with suppress(DiskError):
            lock_file.put_all(missing)


def locked_of(wanted: Wanted, locked: tuple[LockedFile, ...]) -> LockedFile | None:
    """Return the entry of a file among others, None where there is none."""
    identity = (*_file_of(wanted), wanted.revision)
    return next((pin for pin in locked if pin.identity == identity), None)


def _file_of(wanted: Wanted) -> tuple[str, str, str]:
    return (wanted.kind, wanted.repo, wanted.filename)


def _catalog_of(entry: ModelCatalogEntry, project: Project) -> str:
    catalog = load_catalog(project)
    file = catalog.file_of(entry.name) if entry.name in catalog.origins else project.catalog_file
    return CATALOG_NAME if file == project.catalog_file and not project.user_level else str(file)


def _places(project: Project) -> tuple[Path, Path]:
    return project.lock_file, project.models_dir / ".mecha.lock.guard"
