"""ModelService: pull, list, show, verify, remove, bench, eval. What the command line and programs call."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mecha.catalog.catalog import load_catalog
from mecha.catalog.schema import ModelCatalogEntry
from mecha.progress import Progress, silent
from mecha.project import Project, cache_dir, cache_quota_bytes
from mecha.service.measurement import benched, evaluated, tuned
from mecha.service.pinning import is_frozen, note_missing, project_lock, refuse_frozen, require_locked
from mecha.service.provenance import entry_of
from mecha.service.report import AdoptionReport, Evaluation, ModelRow, PullPlan, PullReport
from mecha.service.request import PullOptions, wanted_file, wanted_int8
from mecha.service.rows import model_details, model_row
from mecha.service.workplace import Workplace
from mecha.store.blobs import BlobCache, packaged_models
from mecha.store.damage import Fault
from mecha.store.kept import KeptModels
from mecha.store.models import ModelStore

if TYPE_CHECKING:
    from mecha.service.addition import Addition
    from mecha.service.bundling import Bundles
    from mecha.service.collection import Collection
    from mecha.service.pull import Pull
    from mecha.service.rebuilds import Rebuilds
    from mecha.service.updates import Updates
    from mecha.store.published import BrokenModel, PublishedModel


class ModelService:
    """The models of one project.

    Args:
        environ: the process environment; HF_*, XDG_* and proxies are read from it.
        seeds: files that need no download, found by digest; by default the models that ship in the package.
    """

    def __init__(self, project: Project, environ: Mapping[str, str], *, seeds: tuple[Path, ...] | None = None) -> None:
        self.project = project
        self.store = ModelStore.of(project)
        cache = BlobCache(
            cache_dir(environ),
            seeds=packaged_models() if seeds is None else seeds,
            quota_bytes=cache_quota_bytes(project.settings, environ),
        )
        self._work = Workplace(project, environ, self.store, cache)
        self._lock_file = project_lock(project)

    def pull(self, name: str, options: PullOptions | None = None, progress: Progress = silent) -> PullReport:
        """Bring a model and its INT8 build; see service/pull.py for the stages.

        Raises:
            NotFoundError: no catalog names the model; NetworkError, IntegrityError, DiskError: as the stages.
        """
        options = options or PullOptions()
        entry = load_catalog(self.project).get(name)
        return self._pull(entry, options, progress)

    def completed(self, name: str) -> PullReport | None:
        """Return what a pull of a model says where it has nothing to do; None where it has. Touches no network.

        Raises:
            NotFoundError: no catalog names the model.
        """
        entry = load_catalog(self.project).get(name)
        return self._pulling(entry, self._work.as_frozen(PullOptions()), silent).complete()

    def plan(self, name: str, options: PullOptions | None = None) -> PullPlan:
        """Say what a pull would do, without doing it.

        Raises:
            MechaError: as pull, up to where the file is resolved.
        """
        options = self._work.as_frozen(options or PullOptions())
        entry = load_catalog(self.project).get(name)
        if options.frozen:
            require_locked(entry, options, self.project, self.store.published(name))
        fetcher = self._work.fetcher(options, self._work.cache)
        wanted = wanted_file(entry, options, self.project.root)
        size, missing = fetcher.cost(wanted)
        quantize = wanted_int8(entry, options)
        return PullPlan(
            name=entry.name,
            repo=wanted.repo,
            filename=wanted.filename,
            revision=wanted.revision,
            licence=entry.license or "unknown",
            size_bytes=size,
            download_bytes=missing,
            method=quantize.method if quantize else None,
        )

    def add(self, addition: "Addition", *, folder: Path, progress: Progress = silent) -> PullReport:
        """Add a model to the project's catalog and pull it; nothing is changed when it cannot be pulled.

        Args:
            folder: relative paths start there.

        Raises:
            MechaError: as `new_entry` and `add` of service/addition.py.
        """
        from mecha.service.addition import add, new_entry

        refuse_frozen(self._work.environ, "mecha models add")
        entry = new_entry(addition, folder, self.project.catalog_file.parent)
        place = self._work.place(entry.name)
        fetcher = self._work.fetcher(PullOptions(), place.cache)
        return add(entry, self.project, place, self._lock_file, fetcher, progress)

    def adopt(self, name: str, file: Path, progress: Progress = silent) -> AdoptionReport:
        """Measure an INT8 file made elsewhere against the published FP32, and publish it beside it if it is right.

        Raises:
            MechaError: as `Adoption.run`.
        """
        from mecha.service.adoption import Adoption

        place, entry = self._work.place(name), entry_of(self.store.require(name), self.project)
        return Adoption(place, entry, self._work.fetcher(PullOptions(), place.cache), progress).run(file)

    def rows(self) -> tuple[ModelRow, ...]:
        """Return every model that a catalog names or that is published, by name."""
        catalog = load_catalog(self.project)
        found: dict[str, PublishedModel | BrokenModel] = {model.name: model for model in self.store.all()}
        entries = {entry.name: entry for entry in catalog.entries}
        return tuple(
            model_row(
                name, entries.get(name), found.get(name), catalog.layer_of(name) if name in entries else "unlisted"
            )
            for name in sorted(entries.keys() | found.keys())
        )

    def show(self, name: str) -> dict[str, Any]:
        """Return all that is known of one model: its catalog entry, its config.json, its manifest.

        Raises:
            NotFoundError: neither a catalog nor the store knows it.
        """
        catalog = load_catalog(self.project)
        known = name in {entry.name for entry in catalog.entries}
        # What is broken and in no catalog no pull makes whole; a link to anywhere may have put it there.
        found = self.store.find(name) if known else self.store.published(name)
        entry = catalog.get(name) if known or found is None else None
        return model_details(name, entry, found, catalog.layer_of(name) if known else "unlisted")

    def verify(self, name: str) -> tuple[Fault, ...]:
        """Read every published file again and compare its digest with the manifest; the next pull heals what is found.

        Raises:
            NotFoundError: the model is not pulled.
        """
        from mecha.service.healing import remedies

        faults, published = self.store.verify(name), self.store.published(name)
        return remedies(self._work.place(name), published, faults) if faults and published is not None else faults

    def rebuilds(self) -> "Rebuilds":
        """Return what makes INT8 of published models again; see service/rebuilds.py."""
        from mecha.service.rebuilds import Rebuilds

        return Rebuilds(self._work, self._pull)

    def updates(self) -> "Updates":
        """Return what tells of newer versions, brings them and goes back; see service/updates.py."""
        from mecha.service.updates import Updates

        return Updates(self.project, self._work.environ, self.store, self._work.place, self._work.source(offline=False))

    def collect(self, *, dry_run: bool = False) -> "Collection":
        """Remove what nothing uses from the user cache, and what was left behind there and in the models folder.

        Raises:
            DiskError: something cannot be removed.
        """
        from mecha.service.collection import Collector

        return Collector(self.project, self._work.cache).collect(dry_run=dry_run)

    def remove(self, name: str) -> None:
        """Remove a published model and what it was before; the cache keeps its files for the next pull.

        Raises:
            NotFoundError: the model is not pulled.
        """
        self.store.remove(name)
        KeptModels(self.store).forget(name)

    def bench(self, name: str, *, threads: int | None = None) -> dict[str, Any]:
        """Measure FP32 and INT8 of a published model, alternating in one run; the shape of `models bench --json`.

        Raises:
            NotFoundError: the model is not pulled.
        """
        return benched(self.store, name, threads=threads)

    def eval(
        self,
        name: str,
        *,
        data: Path,
        images: Path,
        limit: int | None = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> Evaluation:
        """Measure the mAP of both precisions on annotated photos; manifest and report have it from then on.

        What another build takes the place of, or of which only some photos were measured, is not remembered.

        Args:
            data: annotations as COCO writes them.
            images: the folder of the photos.
            limit: only the first so many photos.
            threads: of the session.

        Raises:
            NotFoundError: the model is not pulled, or a file is missing.
            ConfigError: the annotations cannot be used with this model.
            IntegrityError: a photo cannot be decoded.
        """
        return evaluated(self.store, name, data, images, limit=limit, threads=threads, progress=progress)

    def tune(self, name: str, progress: Progress = silent) -> dict[str, Any]:
        """Measure which threads and provider run a model fastest here, and remember it; `models tune --json`.

        Raises:
            NotFoundError: the model is not pulled.
        """
        return tuned(self.store, name, progress)

    def bundles(self, progress: Progress = silent) -> "Bundles":
        """Return what writes models into bundles and takes them out; see service/bundling.py."""
        from mecha.service.bundling import Bundles

        lock_file = project_lock(self.project, frozen=is_frozen(self._work.environ))
        return Bundles(self.project, self.store, self._work.cache, lock_file, self._pulling, self._pull, progress)

    def _pull(self, entry: ModelCatalogEntry, options: PullOptions, progress: Progress) -> PullReport:
        options = self._work.as_frozen(options)
        published = self.store.published(entry.name)
        if options.frozen:
            require_locked(entry, options, self.project, published)
        elif published is not None:
            note_missing(published, self._lock_file)
        return self._pulling(entry, options, progress).run()

    def _pulling(self, entry: ModelCatalogEntry, options: PullOptions, progress: Progress) -> "Pull":
        from mecha.service.pull import Pull

        place = self._work.place(entry.name)
        return Pull(place, entry, self._work.fetcher(options, place.cache), options, progress)
