"""What an import will do to each model of a bundle, by what is here; models that are others under the same name."""

from collections.abc import Callable
from dataclasses import dataclass

from mecha.catalog.catalog import Catalog, load_catalog
from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import UsageError
from mecha.progress import Progress
from mecha.project import Project
from mecha.service.pull import Pull
from mecha.service.report import PullReport
from mecha.service.request import METHODS, PullOptions, wanted_file
from mecha.store.blobs import BlobCache
from mecha.store.bundle_index import BundledModel
from mecha.store.lockfile import LockFile
from mecha.store.models import ModelStore
from mecha.store.published import MODEL_FILE, BrokenModel, PublishedModel


@dataclass(frozen=True, slots=True)
class Here:
    """Where bundles are written and taken.

    Attributes:
        pulling: makes the pull of an entry; it is given options that keep it off the network.
        pull: runs one.
    """

    project: Project
    store: ModelStore
    cache: BlobCache
    lock_file: LockFile
    pulling: Callable[[ModelCatalogEntry, PullOptions, Progress], Pull]
    pull: Callable[[ModelCatalogEntry, PullOptions, Progress], PullReport]
    progress: Progress


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model of a bundle is taken.

    Attributes:
        entry: what is pulled; its path is a whole one.
        is_new: no catalog here names it.
        done: all of it is here; None where it is to be taken.
    """

    model: BundledModel
    entry: ModelCatalogEntry
    options: PullOptions
    is_new: bool
    done: PullReport | None = None


def planned(model: BundledModel, here: Here) -> Plan:
    """Return how a model is taken.

    Raises:
        UsageError: its name stands for another model here.
        ConfigError: a catalog here, or mecha.lock, has faults.
    """
    catalog = load_catalog(here.project)
    is_new = model.name not in catalog.origins
    entry = model.entry if is_new else catalog.get(model.name)
    if is_new and entry.path is not None:
        entry = entry.model_copy(update={"path": str(here.project.catalog_file.parent / entry.path)})
    options = _options(model, entry)
    _require_same(model, entry, options, catalog, here)
    entry = _completed(entry, model.entry)
    published = here.store.published(model.name)
    done = None
    if (
        published is not None
        and fp32_of(published) == model.fp32.sha256
        and not is_new
        and set(model.locked) <= set(here.lock_file.entries())
    ):
        done = here.pulling(entry, options, here.progress).complete()
    return Plan(model, entry, options, is_new, done)


def fp32_of(published: PublishedModel) -> str:
    """Return the sha256 of model.onnx by the manifest."""
    return published.manifest.files[MODEL_FILE].sha256


def _options(model: BundledModel, entry: ModelCatalogEntry) -> PullOptions:
    """Return how the model is pulled: as it was where it was exported, as far as the entry here lets it be."""
    requested, int8 = model.manifest.origin.requested_revision, model.manifest.int8
    by_hand = not entry.quantize.enabled and int8.state == "built" and int8.method in METHODS
    return PullOptions(
        offline=True,
        revision=None if entry.path is not None or requested == (entry.revision or "main") else requested,
        method=int8.requested_method if by_hand and int8.requested_method in METHODS else None,
    )


def _require_same(
    model: BundledModel, entry: ModelCatalogEntry, options: PullOptions, catalog: Catalog, here: Here
) -> None:
    """Refuse to put a model in the place of another one that has its name here.

    Raises:
        UsageError: it would.
    """
    wanted = wanted_file(entry, options, here.project.root)
    theirs, has = model.entry.path or model.entry.filename, f"the bundle has {model.entry.where}"
    if (wanted.repo, wanted.filename) != (model.entry.repo, theirs):
        raise UsageError(
            f'model "{model.name}" is another one here: {catalog.file_of(model.name)} names {wanted.where}, {has}',
            hint="Nothing was imported. Rename the entry here, or name the models to import.",
        )
    if wanted.sha256 not in (None, model.fp32.sha256):
        raise UsageError(
            f'model "{model.name}": {catalog.file_of(model.name)} expects sha256 {wanted.sha256}, '
            f"the bundle has {model.fp32.sha256}",
            hint="Nothing was imported. Correct sha256 in the catalog, or name the models to import.",
        )
    found = here.store.find(model.name)
    origin = None if found is None or isinstance(found, BrokenModel) else found.manifest.origin
    if origin is not None and (origin.repo, origin.filename) != (wanted.repo, wanted.filename):
        held = "/".join(filter(None, (origin.repo, origin.filename)))
        raise UsageError(
            f'model "{model.name}" is another one here: {here.store.models_dir / model.name} holds {held}, {has}',
            hint=f"Nothing was imported. `mecha models remove {model.name}` removes the one that is here.",
        )


def _completed(entry: ModelCatalogEntry, bundled: ModelCatalogEntry) -> ModelCatalogEntry:
    """Return an entry with what would have to be asked for in the network: the licence, and names of classes."""
    changed: dict[str, object] = {}
    if entry.license is None:
        changed["license"] = bundled.license
    if entry.label_file is not None and bundled.label_file is None:
        changed["labels"] = bundled.labels
    return entry.model_copy(update=changed)
