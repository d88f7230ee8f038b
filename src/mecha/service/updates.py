"""What published models are upstream today, and bringing it: `models outdated` and `models update`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from mecha.catalog.catalog import load_catalog
from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import IntegrityError, MechaError, NetworkError, QuantizationError
from mecha.hub.source import RemoteFile, Source
from mecha.progress import Progress
from mecha.project import Project
from mecha.service.fetch import Fetcher, Wanted
from mecha.service.pinning import (
    deferred_lock,
    locked_of,
    needed_files,
    pins_of,
    project_lock,
    refuse_frozen,
    version_of,
)
from mecha.service.provenance import entry_of
from mecha.service.publication import Place
from mecha.service.pull import Pull
from mecha.service.report import FileNews, ModelNews, RollbackReport, UpdateReport, Version
from mecha.service.request import PullOptions
from mecha.store.blobs import BlobCache, packaged_models
from mecha.store.digests import sha256_of
from mecha.store.lockfile import LockedFile, LockFile
from mecha.store.models import ModelStore
from mecha.store.published import MODEL_FILE, BrokenModel, PublishedModel

# One repo that does not answer says nothing of the others; after two in a row it is the Hub, or the line.
_SILENT_IN_A_ROW = 2
_SILENT = "not asked: the Hub did not answer for the models before"
_UPDATE = PullOptions(update=True)

_Ask = Callable[[Wanted], RemoteFile]
"""Asks the Hub what a file is today."""


@dataclass(frozen=True, slots=True)
class Updates:
    """The published models of one project, and where they come from.

    Attributes:
        environ: the process environment.
        place: where a model is worked on, by its name.
        source: makes the Hub.
    """

    project: Project
    environ: Mapping[str, str]
    store: ModelStore
    place: Callable[[str], Place]
    source: Callable[[], Source]

    def news(self, names: Sequence[str] = ()) -> tuple[ModelNews, ...]:
        """Say of each model whether the Hub has another version, by name.

        Nothing that is wrong with one model, or with the network, keeps it from telling of the others.

        Args:
            names: of the models; all that are published by default.

        Raises:
            NotFoundError: a model is not pulled.
            ConfigError: the catalog or mecha.lock cannot be read.
        """
        found = {model.name: model for model in self.store.all()}
        for name in names:
            if name not in found:
                found[name] = self.store.require(name)  # published since
        locked = project_lock(self.project).entries()
        listed = {entry.name: entry for entry in load_catalog(self.project).entries}
        source, silent, news = self.source(), 0, list[ModelNews]()

        def ask(wanted: Wanted) -> RemoteFile:
            nonlocal silent
            if silent >= _SILENT_IN_A_ROW:
                raise NetworkError(_SILENT)
            remote = source.resolve(wanted.repo, wanted.filename, revision=wanted.revision, repo_type=wanted.repo_type)
            silent = 0
            return remote

        for name in sorted(set(names) or found):
            model = found[name]
            if isinstance(model, BrokenModel):
                news.append(ModelNews(name, "broken", reason=model.reason, hint=_heal(name)))
                continue
            try:
                news.append(_news(model, listed.get(name), self.project, ask, self.place(name).cache, locked))
            except MechaError as error:
                silent = silent + 1 if type(error) is NetworkError else 0
                news.append(ModelNews(name, "unknown", reason=str(error), hint=error.hint, exit_code=error.exit_code))
        return tuple(news)

    def update(self, names: Sequence[str], *, dry_run: bool, progress: Progress) -> tuple[UpdateReport, ...]:
        """Bring what is new of each model; one that cannot be brought stays as it is, and the others go on.

        Args:
            names: of the models; all that are published by default.
            dry_run: change nothing.

        Raises:
            UsageError: MECHA_FROZEN.
            MechaError: as `news`.
        """
        if not dry_run:
            refuse_frozen(self.environ, "mecha models update")
        reports: list[UpdateReport] = []
        for news in self.news(names):
            if news.state != "outdated" or dry_run:
                reports.append(_unchanged(news))
                continue
            try:
                reports.append(self._brought(news, progress))
            except MechaError as error:
                reports.append(_kept(news, str(error), error.hint, error.exit_code))
        return tuple(reports)

    def roll_back(self, name: str, progress: Progress) -> RollbackReport:
        """Go back to the version of a model from before its last update; a second call returns.

        Raises:
            UsageError: MECHA_FROZEN.
            MechaError: as `Rollback.run`.
        """
        from mecha.service.rollback import Rollback

        refuse_frozen(self.environ, "mecha models rollback")

        def fetcher(place: Place, lock_file: LockFile) -> Fetcher:
            return self._fetcher(place, lock_file, renew=False)

        return Rollback(self.place(name), name, fetcher, progress).run()

    def _fetcher(self, place: Place, lock_file: LockFile, *, renew: bool) -> Fetcher:
        return Fetcher(place.cache, lock_file, self.source, settings=self.project.settings.hub, renew=renew)

    def _brought(self, news: ModelNews, progress: Progress) -> UpdateReport:
        place = self.place(news.name)
        published = place.store.require(news.name)
        if published.suspect:
            raise IntegrityError(f"{news.name}: a published file is damaged", hint=_heal(news.name))
        entry = _entry(published, self.project)
        fetcher = self._fetcher(place, deferred_lock(self.project), renew=True)
        report = Pull(place, entry, fetcher, _UPDATE, progress).run()
        if not report.changed:
            return _kept(news, report.int8_fault or report.message, report.hint, QuantizationError.exit_code)
        now = self.store.require(news.name)
        return UpdateReport(
            name=news.name,
            state="updated",
            before=version_of(published),
            after=version_of(now),
            files=news.files,
            path=report.path,
            method=report.method,
            verdict=report.verdict,
            speedup=report.speedup,
            downloaded_bytes=report.downloaded_bytes,
            message=report.message,
            notes=_notes(published, now),
        )


def _news(
    published: PublishedModel,
    listed: ModelCatalogEntry | None,
    project: Project,
    ask: _Ask,
    cache: BlobCache,
    locked: tuple[LockedFile, ...],
) -> ModelNews:
    entry, options = listed or entry_of(published, project), PullOptions()
    wanted = needed_files(entry, options, project)
    if published.manifest.int8.chosen is not None:
        # Calibrated on frames of the user's own: the photos that the catalog names are not used.
        wanted = tuple(file for file in wanted if file.repo_type == "model")
    pins = pins_of(published)
    files = tuple(_file_news(file, locked_of(file, locked) or locked_of(file, pins), ask, cache) for file in wanted)
    fp32, record = files[0], published.manifest.files[MODEL_FILE]
    if any(file.changed for file in files):
        return ModelNews(published.name, "outdated", files=files)
    if fp32.locked is not None and fp32.locked.sha256 != record.sha256:
        reason = f"mecha.lock names another version than the one that is published ({record.sha256[:12]})"
        return ModelNews(
            published.name,
            "outdated",
            files=files,
            reason=reason,
            hint=f"`mecha models pull {published.name}` brings it.",
        )
    return ModelNews(published.name, "current", files=files)


def _file_news(wanted: Wanted, pin: LockedFile | None, ask: _Ask, cache: BlobCache) -> FileNews:
    locked = None if pin is None else Version(pin.revision, pin.sha256, pin.size_bytes)
    if wanted.file is not None:
        if not wanted.file.is_file():
            # What was pulled goes on: it is in the cache, and in models/.
            return _told(wanted, locked, locked, changed=False, note=f"{wanted.file}: no such file any more")
        newest = Version("", sha256_of(wanted.file), wanted.file.stat().st_size)
        return _told(wanted, locked, newest, changed=pin is None or newest.sha256 != pin.sha256)
    if wanted.sha256 is not None and _is_packaged(wanted.sha256):
        # It comes with mecha, and may be in no repo: another one comes with another version of mecha.
        kept = locked if locked is not None and locked.sha256 == wanted.sha256 else None
        newest = kept or Version(wanted.revision, wanted.sha256, wanted.size_bytes)
        return _told(wanted, locked, newest, changed=kept is None)
    remote = ask(wanted)
    newest = Version(remote.commit, remote.sha256, remote.size_bytes)
    if wanted.sha256 is not None:
        other = remote.sha256 is not None and remote.sha256 != wanted.sha256
        note = f"{wanted.revision} has another file now; the catalog pins sha256 {wanted.sha256}" if other else ""
        return _told(wanted, locked, newest, changed=pin is None or pin.sha256 != wanted.sha256, note=note)
    return _told(wanted, locked, newest, changed=pin is None or _is_other(pin, remote, cache))


def _is_packaged(sha256: str) -> bool:
    return any(sha256_of(file) == sha256 for file in packaged_models())


def _told(wanted: Wanted, locked: Version | None, newest: Version | None, *, changed: bool, note: str = "") -> FileNews:
    return FileNews(wanted.kind, wanted.repo, wanted.filename, wanted.revision, locked, newest, changed, note)


def _is_other(pin: LockedFile, remote: RemoteFile, cache: BlobCache) -> bool:
    """Tell whether a file has other bytes than it had; a commit may change others of its repo only."""
    if remote.sha256 is not None:
        return remote.sha256 != pin.sha256
    if remote.etag == pin.etag or remote.commit == pin.revision:
        return False
    # Two servers name small files differently: git's digest of what is here tells.
    blob = cache.find(pin.sha256)
    return blob is None or _git_digest(blob) != remote.etag


def _git_digest(file: Path) -> str:
    content = file.read_bytes()
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _entry(published: PublishedModel, project: Project) -> ModelCatalogEntry:
    """Return what the catalog asks for, where it names the model: an update brings what a pull would, today's."""
    listed = (entry for entry in load_catalog(project).entries if entry.name == published.name)
    return next(listed, None) or entry_of(published, project)


def _unchanged(news: ModelNews) -> UpdateReport:
    model = news.files[0] if news.files else None
    return UpdateReport(
        name=news.name,
        state=news.state,
        before=model.locked if model else None,
        after=model.newest if model else None,
        files=news.files,
        reason=news.reason,
        hint=news.hint,
        exit_code=news.exit_code,
    )


def _kept(news: ModelNews, reason: str, hint: str, exit_code: int) -> UpdateReport:
    model = news.files[0]
    return UpdateReport(
        name=news.name,
        state="kept",
        before=model.locked,
        after=model.newest,
        files=news.files,
        reason=reason,
        hint=hint,
        exit_code=exit_code,
    )


def _notes(before: PublishedModel, now: PublishedModel) -> tuple[str, ...]:
    """Say what programs that use the model have to know."""
    notes: list[str] = []
    if before.spec.classes != now.spec.classes:
        gone = [label for label in before.spec.classes if label not in now.spec.classes]
        what = f"; gone: {', '.join(gone)}" if gone else ""
        notes.append(f"its classes are others now: {len(now.spec.classes)}, before {len(before.spec.classes)}{what}")
    was, size = before.spec.input, now.spec.input
    if (was.width, was.height) != (size.width, size.height):
        notes.append(f"its input is {size.width}x{size.height} now, before {was.width}x{was.height}")
    if before.spec.family != now.spec.family:
        notes.append(f"its family is {now.spec.family} now, before {before.spec.family}")
    return tuple(notes)


def _heal(name: str) -> str:
    return f"`mecha models pull {name}` makes it whole again."
