"""Going back to the version of a model from before its last update."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mecha.catalog.catalog import load_catalog
from mecha.errors import NotFoundError, QuantizationError
from mecha.progress import Progress
from mecha.service.collection import at_work
from mecha.service.fetch import Fetcher, Wanted
from mecha.service.pinning import deferred_lock, pins_of, project_lock, version_of
from mecha.service.provenance import entry_of
from mecha.service.publication import Place
from mecha.service.pull import Pull
from mecha.service.report import RollbackReport
from mecha.service.request import PullOptions, wanted_file
from mecha.service.turn import turn
from mecha.store.blobs import link_or_copy
from mecha.store.digests import sha256_of
from mecha.store.kept import KeptModels
from mecha.store.lockfile import LockFile
from mecha.store.manifest import Manifest
from mecha.store.pins import LockedFile
from mecha.store.published import INT8_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.spec import ModelSpec

_LOCK_TIMEOUT_S = 24 * 3600.0
_NEEDED = frozenset({MODEL_FILE, INT8_FILE, SPEC_FILE})
_UPDATE = PullOptions(update=True)


@dataclass(frozen=True, slots=True)
class Rollback:
    """One model's way back.

    Attributes:
        fetcher: brings files, as they are named in the lock it is given.
    """

    place: Place
    name: str
    fetcher: Callable[[Place, LockFile], Fetcher]
    progress: Progress

    def run(self) -> RollbackReport:
        """Publish the version from before the last update, with its INT8 and its entries of mecha.lock.

        What is published is kept in its place, so a second run returns. The network is needed only for what neither
        the project nor the cache has any more.

        Raises:
            NotFoundError: the model is not pulled, or there is no version to go back to.
            MechaError: as a pull; what is published stays.
        """
        store, kept = self.place.store, KeptModels(self.place.store)
        with ExitStack() as held:
            lock, doing = store.lock_file(self.name), f"rollback of {self.name}"
            held.enter_context(at_work(self.place.project, self.place.cache))
            held.enter_context(turn(lock, doing, self.progress, timeout_s=_LOCK_TIMEOUT_S))
            kept.settle(self.name, project_lock(self.place.project))
            found = store.find(self.name) or store.require(self.name)
            now = found if isinstance(found, PublishedModel) else None
            before = kept.find(self.name)
            if before is None:
                raise self._nothing("it was not updated here since it was pulled", "R")
            with store.staging(self.name) as staged:
                missing = self._restored(before, staged)
                downloaded = self._brought(before, staged) if MODEL_FILE in missing else 0
                if missing <= {MODEL_FILE}:
                    return self._report(now, self._published(now, before, staged), downloaded)
        # Its INT8 is nowhere any more: made again, from the same FP32.
        return self._rebuilt(now, before)

    def _restored(self, before: Manifest, staged: Path) -> frozenset[str]:
        """Put a version together from what is kept and from the cache; return what of it neither has, but is needed."""
        folder, cache = KeptModels(self.place.store).folder(self.name), self.place.cache
        build = cache.find_build(before.int8.key) if before.int8.key else None
        missing: set[str] = set()
        for filename, record in before.files.items():
            places = (folder / filename, *((build / filename,) if build is not None else ()))
            source = next((file for file in places if file.is_file() and sha256_of(file) == record.sha256), None)
            if source is not None:
                link_or_copy(source, staged / filename, may_link=True)
            elif filename == MODEL_FILE and cache.find(record.sha256) is not None:
                cache.link(record.sha256, staged / filename)
            else:
                missing.add(filename)
        return frozenset(missing & _NEEDED)

    def _brought(self, before: Manifest, staged: Path) -> int:
        """Bring the model file from where it came from; return the bytes that were transferred."""
        origin, record = before.origin, before.files[MODEL_FILE]
        wanted = Wanted(
            repo=origin.repo,
            filename=origin.filename,
            revision=origin.requested_revision,
            sha256=record.sha256,
            size_bytes=record.size_bytes,
            file=self.place.project.root / origin.filename if origin.kind == "file" else None,
        )
        fetcher = self.fetcher(self.place, deferred_lock(self.place.project, before.pins))
        fetched = fetcher.fetch(wanted, self.progress)
        self.place.cache.link(record.sha256, staged / MODEL_FILE)
        return fetched.downloaded_bytes

    def _published(self, now: PublishedModel | None, before: Manifest, staged: Path) -> PublishedModel:
        store, kept, lock_file = self.place.store, KeptModels(self.place.store), project_lock(self.place.project)
        files = {name: record for name, record in before.files.items() if (staged / name).is_file()}
        manifest = before.model_copy(update={"files": files})
        pins = _pins_now(now, before, lock_file) if now is not None else ()
        kept.prepare(now, pins, manifest, name=self.name)
        published = store.publish(self.name, staged, manifest)
        kept.settle(self.name, lock_file)
        return published

    def _rebuilt(self, now: PublishedModel | None, before: Manifest) -> RollbackReport:
        folder = KeptModels(self.place.store).folder(self.name)
        try:
            spec = ModelSpec.model_validate_json((folder / SPEC_FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise self._nothing(f"{folder / SPEC_FILE} cannot be read", before.origin.revision or "R") from error
        entry = entry_of(PublishedModel(self.name, folder, before, spec), self.place.project)
        if entry.path is None:
            pinned = {"revision": before.origin.requested_revision, "sha256": None, "size_bytes": None}
            entry = entry.model_copy(update=pinned)
        fetcher = self.fetcher(self.place, deferred_lock(self.place.project, before.pins))
        report = Pull(self.place, entry, fetcher, _UPDATE, self.progress).run()
        if not report.changed:
            why = report.int8_fault or report.message
            raise QuantizationError(f"{self.name}: not gone back: {why}", hint=report.hint)
        return self._report(now, self.place.store.require(self.name), report.downloaded_bytes)

    def _report(self, before: PublishedModel | None, now: PublishedModel, downloaded_bytes: int) -> RollbackReport:
        int8 = now.manifest.int8
        return RollbackReport(
            name=now.name,
            path=str(now.path),
            before=version_of(before) if before is not None else None,
            after=version_of(now),
            method=int8.method if now.int8_path is not None else None,
            verdict=int8.gate.verdict if int8.gate is not None else None,
            downloaded_bytes=downloaded_bytes,
            notice=self._notice(now),
        )

    def _notice(self, now: PublishedModel) -> str:
        """Say when the catalog asks for something else than what is published now: then a pull brings that."""
        project, origin = self.place.project, now.manifest.origin
        listed = next((entry for entry in load_catalog(project).entries if entry.name == now.name), None)
        if listed is None:
            return ""
        wanted = wanted_file(listed, PullOptions(), project.root)
        asked = (wanted.repo, wanted.filename, wanted.revision)
        same = asked == (origin.repo, origin.filename, origin.requested_revision)
        if same and wanted.sha256 in (None, now.manifest.files[MODEL_FILE].sha256):
            return ""
        at = f" at {wanted.revision}" if wanted.revision else ""
        return f"the catalog asks for {wanted.where}{at}, which the next pull brings again"

    def _nothing(self, why: str, revision: str) -> NotFoundError:
        return NotFoundError(
            f"{self.name}: there is nothing to go back to: {why}",
            hint=f"`mecha models pull {self.name} --revision {revision}` brings any commit, branch or tag."
            if revision == "R"
            else f"`mecha models pull {self.name} --revision {revision}` brings that version.",
        )


def _pins_now(now: PublishedModel, before: Manifest, lock_file: LockFile) -> tuple[LockedFile, ...]:
    """Return what mecha.lock says of what is published, as far as the version before has other entries for it."""
    identities = {pin.identity for pin in before.pins}
    return pins_of(now, tuple(entry for entry in lock_file.entries() if entry.identity in identities))
