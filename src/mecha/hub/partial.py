"""A file that is not whole yet: its bytes, their running digest, and the sidecar that says what they are part of.

After a crash of the process the bytes are those that were written. After a loss of power the end of the file may hold
zeros or garbage, because data and length reach the disk in any order. Nothing read back is therefore believed: what is
on disk is hashed again when a download goes on, the digest of the whole decides in the end, and when it is wrong the
download starts over once by itself.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from mecha.hub.addresses import server
from mecha.hub.behind import EarlySync, RunningDigest
from mecha.hub.source import RemoteFile
from mecha.store.atomic import disk_error, write_file

_READ_BYTES = 1 << 20
_GIT_SHA1_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the bytes of a partial file belong to, whatever address they came from.

    Attributes:
        validator: the strong ETag of the server that sent them, for If-Range; None when it gave none. A content
            delivery network has its own, which differs from the Hub's `etag`.
        server: the server that was asked when the validator came; another one knows nothing of it.
    """

    repo: str
    repo_type: str
    filename: str
    commit: str
    etag: str
    sha256: str | None
    size_bytes: int | None
    validator: str | None
    server: str = ""

    def continues(self, remote: RemoteFile) -> bool:
        """Whether bytes kept with this sidecar are the start of the remote file."""
        if remote.sha256 is not None:
            return self.sha256 == remote.sha256
        return self == _sidecar(remote, self.validator, self.server)


class PartialFile:
    """The partial file of one download, open for writing at its end; used by one process at a time.

    Attributes:
        size: bytes held.
        resumed_bytes: how many of them an earlier process left.
        mixed: whether they came in more than one answer, those of an earlier process included.
    """

    def __init__(self, path: Path, remote: RemoteFile, file: FileIO) -> None:
        self.path = path
        self.remote = remote
        self.size = 0
        self.resumed_bytes = 0
        self.mixed = False
        self.validator: str | None = None
        self._server = ""
        self._file = file
        self._digest = RunningDigest()
        self._early = EarlySync(file.fileno())

    @property
    def sha256(self) -> str:
        """The digest of the bytes held, lower-case hex."""
        return self._digest.hexdigest()

    @property
    def known_validator(self) -> str | None:
        """The validator of the bytes held, where the server that is asked now is the one that gave it."""
        return self.validator if self._server in {"", server(self.remote.url)} else None

    def append(self, chunk: bytes) -> None:
        """Write bytes at the end.

        Raises:
            DiskError: no space; what was written so far stays.
        """
        left = memoryview(chunk)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise disk_error(error, self.path, "write") from error
        self._digest.update(chunk)
        self.size += len(chunk)
        self._early.wrote(len(chunk))

    def start_over(self, validator: str | None) -> None:
        """Drop all bytes; those that follow come from a server that names them by `validator`."""
        self._drop()
        self.validator, self._server = validator, server(self.remote.url)
        content = json.dumps(asdict(_sidecar(self.remote, validator, self._server)), indent=2) + "\n"
        write_file(sidecar_path(self.path), content.encode(), mode=0o600)

    def sync(self) -> None:
        """Make sure that the bytes are on the disk and not only in its cache."""
        try:
            self._early.wait()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise disk_error(error, self.path, "write") from error

    def fault(self) -> str | None:
        """Return why the bytes held are not the remote file, or None when they are."""
        expected = self.remote.size_bytes
        if expected is not None and self.size != expected:
            return f"got {self.size} bytes; expected {expected}"
        if self.remote.sha256 is not None:
            return None if self.sha256 == self.remote.sha256 else _mismatch("sha256", self.sha256, self.remote.sha256)
        if not _is_sha1(self.remote.etag):
            return None
        # A small file has no sha256 at the Hub: its etag is git's own digest. Other servers put the plain SHA-1 there.
        git, plain = _sha1_digests(self.path, self.size)
        return None if self.remote.etag in {git, plain} else _mismatch("git digest", git, self.remote.etag)

    def resume(self) -> None:
        """Take over what an earlier process left, hashing it again; drop it when it is part of something else."""
        found = _read_sidecar(self.path)
        size = os.fstat(self._file.fileno()).st_size
        if size == 0 or not self._is_worth_hashing(found, size):
            self._drop()
            return
        try:
            while chunk := self._file.read(_READ_BYTES):
                self._digest.update(chunk)
                self.size += len(chunk)
        except OSError as error:
            raise disk_error(error, self.path, "read") from error
        self.resumed_bytes = self.size
        self.mixed = True
        if found is not None:
            self.validator, self._server = found.validator, found.server
        if found is None and self.fault() is not None:
            self._drop()

    def _drop(self) -> None:
        try:
            self._file.seek(0)
            self._file.truncate(0)
        except OSError as error:
            raise disk_error(error, self.path, "write") from error
        self.size = 0
        self.resumed_bytes = 0
        self.mixed = False
        self.validator = None
        self._server = ""
        self._digest.hexdigest()
        self._digest = RunningDigest()

    def close(self) -> None:
        """End what is done beside the transfer; the bytes stay."""
        self._digest.hexdigest()
        # Its answer is for `sync`; whoever closes without it believes nothing.
        with suppress(OSError):
            self._early.wait()

    def _is_worth_hashing(self, found: Sidecar | None, size: int) -> bool:
        expected = self.remote.size_bytes
        if expected is not None and size > expected:
            return False
        # Without a digest nothing could prove that old and new bytes belong together.
        if self.remote.sha256 is None and not _is_sha1(self.remote.etag):
            return False
        if found is not None:
            return found.continues(self.remote)
        # The sidecar goes before the caller takes the finished file: a process that ends in between leaves a whole one.
        return size == expected


@contextmanager
def opened_partial(path: Path, remote: RemoteFile) -> Iterator[PartialFile]:
    """Open the partial file at a path, with what an earlier process left of the same file; mode 0600.

    Raises:
        DiskError: it cannot be opened, read or written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    except OSError as error:
        raise disk_error(error, path, "open") from error
    with FileIO(descriptor, "r+") as file:
        partial = PartialFile(path, remote, file)
        try:
            partial.resume()
            yield partial
        finally:
            partial.close()


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a partial file is."""
    return path.with_name(f"{path.name}.json")


def discard(path: Path, *, sidecar_only: bool = False) -> None:
    """Remove a partial file with its sidecar, or the sidecar alone."""
    for gone in (sidecar_path(path),) if sidecar_only else (path, sidecar_path(path)):
        try:
            gone.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, gone, "remove") from error


def _sidecar(remote: RemoteFile, validator: str | None, asked: str) -> Sidecar:
    return Sidecar(
        repo=remote.repo,
        repo_type=remote.repo_type,
        filename=remote.filename,
        commit=remote.commit,
        etag=remote.etag,
        sha256=remote.sha256,
        size_bytes=remote.size_bytes,
        validator=validator,
        server=asked,
    )


def _read_sidecar(path: Path) -> Sidecar | None:
    """Return the sidecar, or None when there is none or it was not written by this version."""
    try:
        return Sidecar(**json.loads(sidecar_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_sha1(etag: str) -> bool:
    return len(etag) == _GIT_SHA1_DIGITS and set(etag) <= set("0123456789abcdef")


def _sha1_digests(path: Path, size: int) -> tuple[str, str]:
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    plain = hashlib.sha1(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                git.update(chunk)
                plain.update(chunk)
    except OSError as error:
        raise disk_error(error, path, "read") from error
    return git.hexdigest(), plain.hexdigest()


def _mismatch(what: str, got: str, expected: str) -> str:
    return f"{what}: got {got}; expected {expected}"
