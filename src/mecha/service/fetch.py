"""Bringing one file into the cache: from the cache, from the package, from this device, or over the network."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.errors import IntegrityError, MechaError, NotFoundError
from mecha.hub.source import RemoteFile, RepoType, Source
from mecha.progress import Progress, of_file
from mecha.project import HubSettings
from mecha.service.attachment import Reached, reached
from mecha.service.local import take
from mecha.service.plain_http import require_digest
from mecha.service.turn import turn
from mecha.store.blobs import BlobCache
from mecha.store.digests import sha256_of
from mecha.store.faults import require_space
from mecha.store.lockfile import LockedFile, LockFile

if TYPE_CHECKING:
    from mecha.hub.download import Downloaded

_MAIN = "main"
_ONE_WRITER_TIMEOUT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have.

    Attributes:
        repo: empty for a file on this device.
        filename: in the repo; for a file on this device its path from the project's root, or the whole one.
        revision: branch, tag or commit; "main" when nobody said, empty for a file on this device.
        sha256: what its bytes must be, where the catalog pins them.
        extra_share: space that later stages need besides the file, as a share of its size.
        file: where it is on this device, None for a file of the Hub.
    """

    repo: str
    filename: str
    revision: str = _MAIN
    repo_type: RepoType = "model"
    sha256: str | None = None
    size_bytes: int | None = None
    extra_share: float = 0.0
    file: Path | None = None

    @property
    def kind(self) -> str:
        """What mecha.lock calls the place: "file" for this device, else what the repo is."""
        return self.repo_type if self.file is None else "file"

    @property
    def where(self) -> str:
        """The file in words: `owner/repo/model.onnx`, or its path."""
        return f"{self.repo}/{self.filename}" if self.file is None else self.filename


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that lies whole in the cache, and how it came there."""

    path: Path
    locked: LockedFile
    downloaded_bytes: int


@dataclass(frozen=True, slots=True)
class Check:
    """Raises when bytes are not what is needed: by their number, by the first of them, by the complete file."""

    size: Callable[[int], None]
    start: Callable[[bytes], None]
    whole: Callable[[Path], None]


class Fetcher:
    """Fetches files, one writer per file across processes.

    Args:
        source: makes the source of files when the network is really needed, and not before.
        settings: how long a bad line is waited for.
        renew: take no revision from mecha.lock; ask the Hub what the requested one means today.
    """

    def __init__(
        self,
        cache: BlobCache,
        lock_file: LockFile,
        source: Callable[[], Source],
        *,
        settings: HubSettings | None = None,
        renew: bool = False,
        limit_bytes_per_s: int | None = None,
    ) -> None:
        self._cache, self._lock_file, self._source = cache, lock_file, source
        self._settings = settings or HubSettings()
        self._renew, self._limit = renew, limit_bytes_per_s

    @property
    def used(self) -> tuple[LockedFile, ...]:
        """What mecha.lock says of every file that was fetched, sorted."""
        return self._lock_file.used

    def known(self, wanted: Wanted) -> LockedFile | None:
        """Return what a file must be without asking anybody: from mecha.lock, or from a pin in the catalog."""
        locked = None
        if not self._renew:
            locked = self._lock_file.find(
                wanted.repo, wanted.filename, requested=wanted.revision, repo_type=wanted.kind
            )
        if wanted.sha256 is None or (locked is not None and locked.sha256 == wanted.sha256):
            return locked
        blob = self._cache.find(wanted.sha256)
        if blob is None:
            return None
        return _locked(wanted, wanted.sha256, blob, revision=wanted.revision, etag=wanted.sha256)

    def differs(self, wanted: Wanted) -> bool:
        """Tell whether a file on this device is not the one mecha.lock pins any more. Reads the whole file."""
        known = self.known(wanted)
        if wanted.file is None or known is None or not wanted.file.is_file():
            return False
        return wanted.file.stat().st_size != known.size_bytes or sha256_of(wanted.file) != known.sha256

    def fetch(self, wanted: Wanted, progress: Progress, *, check: Check | None = None) -> Fetched:
        """Return the file, downloading or copying what is not in the cache; the lock file then says what it was.

        Args:
            check: looks at the first bytes while they arrive, and at the whole file before it is believed.

        Raises:
            NetworkError, NotFoundError, AccessDeniedError, OfflineError: as the source.
            IntegrityError: the bytes are not what the Hub, mecha.lock or the catalog says.
            DiskError: no space, or no permission.
        """
        known = self.known(wanted)
        blob = self._cache.find(known.sha256) if known else None
        if known is not None and blob is not None:
            if check is not None:
                check.whole(blob)
            self._lock_file.put(known)
            return Fetched(blob, known, 0)
        if wanted.file is not None:
            return self._take(wanted, wanted.file, known, check, progress)
        remote = self._resolve(wanted, known)
        require_digest(remote.url, known.sha256 if known else wanted.sha256, what=wanted.where)
        _require_same(wanted, known, remote)
        return self._transfer(wanted, known, remote, progress, check)

    def _resolve(self, wanted: Wanted, known: LockedFile | None) -> RemoteFile:
        """Ask where the file is; a mirror that knows no such commit may have the very bytes under "main"."""
        source, revision = self._source(), known.revision if known else wanted.revision
        expected = known.sha256 if known else wanted.sha256
        try:
            return source.resolve(wanted.repo, wanted.filename, revision=revision, repo_type=wanted.repo_type)
        except NotFoundError:
            if expected is None or revision == _MAIN:
                raise
            with suppress(NotFoundError):
                newest = source.resolve(wanted.repo, wanted.filename, revision=_MAIN, repo_type=wanted.repo_type)
                if newest.sha256 == expected:
                    return newest
            raise

    def cost(self, wanted: Wanted) -> tuple[int | None, int | None]:
        """Return the file's size and the bytes that a fetch would transfer; None where the server does not say."""
        known = self.known(wanted)
        if known is not None and self._cache.find(known.sha256) is not None:
            return known.size_bytes, 0
        if wanted.file is not None:
            return (wanted.file.stat().st_size if wanted.file.is_file() else None), 0
        remote = self._resolve(wanted, known)
        if remote.size_bytes is None:
            return None, None
        if remote.sha256 is not None and self._cache.find(remote.sha256) is not None:
            return remote.size_bytes, 0
        partial = self._cache.partial(_partial_key(remote))
        return remote.size_bytes, remote.size_bytes - (partial.stat().st_size if partial.exists() else 0)

    def licence(self, repo: str, revision: str) -> str | None:
        """Return the licence the repo states, or None."""
        return self._source().licence(repo, revision=revision)

    def _transfer(
        self, wanted: Wanted, known: LockedFile | None, remote: RemoteFile, progress: Progress, check: Check | None
    ) -> Fetched:
        partial, progress = self._cache.partial(_partial_key(remote)), of_file(progress, remote.sha256)
        lock, doing = partial.with_suffix(".lock"), f"download of {wanted.filename}"

        def others() -> Reached | None:
            return reached(partial, remote.size_bytes)

        with turn(lock, doing, progress, timeout_s=_ONE_WRITER_TIMEOUT_S, watch=others):
            present = self._cache.find(remote.sha256) if remote.sha256 else None
            digest, transferred = remote.sha256 or "", 0
            if present is None:
                if remote.size_bytes is not None:
                    if check is not None:
                        check.size(remote.size_bytes)
                    require_space(
                        partial.parent,
                        remote.size_bytes,
                        int8_bytes=int(remote.size_bytes * wanted.extra_share),
                        what=f"{wanted.repo}/{wanted.filename}",
                        present_bytes=partial.stat().st_size if partial.exists() else 0,
                    )
                done = self._download(remote, partial, progress, check)
                if wanted.sha256 and done.sha256 != wanted.sha256:
                    partial.unlink(missing_ok=True)
                    raise _pin_broken(wanted, done.sha256)
                if known is not None and done.sha256 != known.sha256:
                    # A server that gives no digest has not been compared with mecha.lock before.
                    partial.unlink(missing_ok=True)
                    raise _lock_broken(wanted, known, done.sha256)
                if check is not None:
                    check.whole(partial)
                present = self._cache.adopt(partial, done.sha256)
                digest, transferred = done.sha256, done.transferred_bytes
            elif check is not None:
                check.whole(present)
        locked = _locked(wanted, digest, present, revision=remote.commit, etag=remote.etag)
        self._lock_file.put(locked)
        return Fetched(present, locked, transferred)

    def _download(self, remote: RemoteFile, partial: Path, progress: Progress, check: Check | None) -> "Downloaded":
        """Download from where the file was found; a mirror that fails hands what has come over to the next."""
        from mecha.hub.download import download
        from mecha.hub.mirrors import PASSED_OVER, refused_by_all, retries_of, timeouts_of, widening_of

        faults: list[MechaError] = []
        present_bytes = partial.stat().st_size if partial.exists() else 0
        others = self._source().elsewhere(remote)
        at: RemoteFile | None = remote
        while at is not None:
            try:
                done = download(
                    at,
                    partial,
                    progress=progress,
                    limit_bytes_per_s=self._limit,
                    check_start=check.start if check else None,
                    timeouts=timeouts_of(self._settings),
                    retries=retries_of(self._settings),
                    widening=widening_of(self._settings),
                )
                brought = max(0, done.resumed_from - present_bytes)
                return replace(done, transferred_bytes=done.transferred_bytes + brought)
            except PASSED_OVER as error:
                faults.append(error)
            at = next(others, None)
        raise refused_by_all(f"{remote.repo}/{remote.filename}", faults)

    def _take(
        self, wanted: Wanted, file: Path, known: LockedFile | None, check: Check | None, progress: Progress
    ) -> Fetched:
        """Take a file of this device into the cache."""

        def whole(copy: Path, digest: str) -> None:
            if wanted.sha256 and digest != wanted.sha256:
                raise _pin_broken(wanted, digest)
            if known is not None and digest != known.sha256:
                raise IntegrityError(
                    f"{wanted.where}: sha256 is {digest}, mecha.lock expects {known.sha256}",
                    hint="put the file back that it was, or take it as it is now with --force",
                )
            if check is not None:
                check.whole(copy)

        def start(first: bytes) -> None:
            if check is not None:
                check.start(first)

        if check is not None and file.is_file():
            check.size(file.stat().st_size)
        blob, digest = take(
            self._cache,
            file,
            extra_share=wanted.extra_share,
            check_start=start,
            check_whole=whole,
            progress=progress,
        )
        locked = _locked(wanted, digest, blob, revision="", etag="")
        self._lock_file.put(locked)
        return Fetched(blob, locked, 0)


def _locked(wanted: Wanted, sha256: str, blob: Path, *, revision: str, etag: str) -> LockedFile:
    return LockedFile(
        repo=wanted.repo,
        repo_type=wanted.kind,
        filename=wanted.filename,
        requested=wanted.revision,
        revision=revision,
        etag=etag,
        sha256=sha256,
        size_bytes=blob.stat().st_size,
    )


def _partial_key(remote: RemoteFile) -> str:
    """Name the partial by content where the Hub tells it, so that two repos with the same file share one download."""
    return remote.sha256 or sha256(f"{remote.repo}/{remote.filename}@{remote.commit}".encode()).hexdigest()


def _require_same(wanted: Wanted, known: LockedFile | None, remote: RemoteFile) -> None:
    """Refuse a file that is not the one the catalog or mecha.lock pins, before a byte of it is transferred."""
    if wanted.sha256 and remote.sha256 and remote.sha256 != wanted.sha256:
        raise _pin_broken(wanted, remote.sha256)
    if known and remote.sha256 and remote.sha256 != known.sha256:
        raise _lock_broken(wanted, known, remote.sha256)


def _lock_broken(wanted: Wanted, known: LockedFile, got: str) -> IntegrityError:
    return IntegrityError(
        f"{wanted.repo}/{wanted.filename} at {known.revision}: sha256 is {got}, mecha.lock expects {known.sha256}",
        hint="the server changed a commit that must not change; try another endpoint, or renew with --force",
    )


def _pin_broken(wanted: Wanted, got: str) -> IntegrityError:
    at = f"{wanted.where} at {wanted.revision}" if wanted.file is None else wanted.where
    return IntegrityError(
        f"{at}: sha256 is {got}, the catalog expects {wanted.sha256}",
        hint="nothing was kept; correct sha256 or revision in the catalog, or ask the publisher",
    )
