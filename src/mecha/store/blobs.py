"""The cache that all projects share: downloads and INT8 builds, by content.

    <root>/blobs/<sha256>        a whole download
    <root>/partial/<key>         a download on its way; stays after a crash, to be resumed
    <root>/builds/<key>/         the files of a build, and build.json with their digests
    <root>/used/, leases/        when each was used last, and who needs it now

Nothing wrong comes out of it: what is found is read and compared with its digest first, and removed when it differs.
"""

import errno
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

import mecha
from mecha.errors import DiskError, NotFoundError
from mecha.store.atomic import (
    discard,
    fsync_dir,
    fsync_file,
    fsync_tree,
    make_dir,
    replace_dir,
    sweep,
    unfinished_path,
    write_file,
)
from mecha.store.cached import Kind, item_of
from mecha.store.digests import folder_records, sha256_of
from mecha.store.faults import disk_error
from mecha.store.filenames import FileName
from mecha.store.format import note_format, require_known
from mecha.store.leases import Lease, Leases
from mecha.store.manifest import FileRecord
from mecha.store.spec import Frozen, serialised
from mecha.store.usage import UseRecord

_BUILD_FILE = "build.json"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Build(Frozen):
    files: dict[FileName, FileRecord]


def packaged_models() -> tuple[Path, ...]:
    """Return the model files that come with mecha: seeds of every cache."""
    return tuple(sorted((Path(mecha.__file__).parent / "arena").glob("*.onnx")))


class BlobCache:
    """The cache of one user.

    Args:
        root: its folder, made when something is put in.
        seeds: files that need not be downloaded, found by their digest.
        quota_bytes: what it may take after a pull, None for whatever it needs.
    """

    def __init__(self, root: Path, seeds: tuple[Path, ...] = (), *, quota_bytes: int | None = None) -> None:
        self.root = root
        self.seeds = seeds
        self.quota_bytes = quota_bytes
        self._uses = UseRecord(root)
        self._lease: Lease | None = None

    @property
    def _known_root(self) -> Path:
        """The folder, refused with NewerFormatError when a newer mecha has written it."""
        require_known(self.root)
        return self.root

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what is found, brought and linked meanwhile from being evicted by anybody; one within another is one."""
        if self._lease is not None:
            yield
            return
        self._lease = Lease(Leases(self.root))
        try:
            yield
        finally:
            self._lease.end()
            self._lease = None

    def called(self, kind: Kind, key: str, name: str) -> None:
        """Note what people call a download or build."""
        self._uses.note(item_of(kind, key), name)

    def _need(self, kind: Kind, key: str) -> None:
        if self._lease is not None:
            self._lease.need(item_of(kind, key))

    def path(self, sha256: str) -> Path:
        """Return where a download with this digest is or will be."""
        if not is_digest(sha256):
            raise ValueError(f"got {sha256!r}; expected 64 lower-case hex digits")
        return self._known_root / "blobs" / sha256

    def find(self, sha256: str) -> Path | None:
        """Return the file with this digest, None when neither cache nor seeds have it.

        Reads the whole file (1 s for each GB): it may be linked into a project, and have been written to there.
        """
        blob = self.path(sha256)
        self._need("download", sha256)
        if _is(blob, sha256):
            self._uses.note(item_of("download", sha256))
            return blob
        discard(blob)
        for seed in self.seeds:
            if seed.is_file() and sha256_of(seed) == sha256:
                return seed
        return None

    def partial(self, key: str) -> Path:
        """Return where a download on its way is kept, its folder made; the file may not exist."""
        path = self._known_root / "partial" / _checked(key)
        make_dir(path.parent)
        note_format(self.root)
        return path

    def adopt(self, partial: Path, sha256: str) -> Path:
        """Move a finished download, whose digest is known to be `sha256`, into the cache.

        Raises:
            DiskError: it is still where it was.
        """
        blob = self.path(sha256)
        self._need("download", sha256)
        make_dir(blob.parent)
        try:
            _protect(partial)
            fsync_file(partial)
            partial.replace(blob)
        except OSError as error:
            raise disk_error(error, blob, "keep the download") from error
        fsync_dir(blob.parent)
        self._uses.note(item_of("download", sha256))
        return blob

    def link(self, sha256: str, target: Path) -> None:
        """Make `target`, which must not exist, the file with this digest: a hard link where possible, else a copy.

        Raises:
            NotFoundError: there is no such file.
            DiskError: it cannot be written.
        """
        source = self.find(sha256)
        if source is None:
            raise NotFoundError(f"{self.path(sha256)}: no such file in the cache")
        link_or_copy(source, target, may_link=source not in self.seeds)

    def build_dir(self, key: str) -> Path:
        """Return where the build with this key is or will be."""
        return self._known_root / "builds" / _checked(key)

    def find_build(self, key: str) -> Path | None:
        """Return the folder of a whole build, None when there is none. Reads all its files."""
        folder = self.build_dir(key)
        self._need("build", key)
        records = self.build_records(key)
        if records and folder_records(folder, without=_BUILD_FILE) == records:
            self._uses.note(item_of("build", key))
            return folder
        discard(folder)
        return None

    def build_records(self, key: str) -> dict[str, FileRecord]:
        """Return what the files of a build are said to be, by name, sorted; empty where nothing whole is said."""
        try:
            build = _Build.model_validate_json((self.build_dir(key) / _BUILD_FILE).read_bytes())
        except (OSError, ValidationError):
            return {}
        return dict(sorted(build.files.items()))

    @contextmanager
    def build_staging(self, key: str) -> Iterator[Path]:
        """Give a new folder for making a build, in the file system of the cache; removed unless adopted.

        Raises:
            DiskError: it cannot be made.
        """
        folder = unfinished_path(self.build_dir(key), "staging")
        sweep(folder.parent)
        make_dir(folder)
        note_format(self.root)
        try:
            yield folder
        finally:
            discard(folder)

    def adopt_build(self, staged: Path, key: str) -> Path:
        """Move a finished build from a folder of the same file system into the cache, in the place of an earlier one.

        Raises:
            DiskError: the cache is as it was.
        """
        folder = self.build_dir(key)
        self._need("build", key)
        make_dir(folder.parent)
        records = folder_records(staged, without=_BUILD_FILE)
        for name in records:
            _protect(staged / name)
        fsync_tree(staged)
        write_file(staged / _BUILD_FILE, serialised(_Build(files=records)))
        replace_dir(staged, folder)
        self._uses.note(item_of("build", key))
        return folder

    def link_build(self, key: str, filename: str, target: Path) -> None:
        """Make `target` a file of a build, as `link` does. Raises as `link`."""
        source = self.build_dir(key) / filename
        if not source.is_file():
            raise NotFoundError(f"{source}: no such file in the cache")
        link_or_copy(source, target, may_link=True)


def is_digest(text: str) -> bool:
    """Tell whether a text can be the sha256 of a download."""
    return _SHA256.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Tell whether a text can be the key of a build."""
    return _KEY.fullmatch(text) is not None


def _checked(key: str) -> str:
    if not is_key(key):
        raise ValueError(f"got {key!r}; expected letters, digits, . _ and -")
    return key


def _is(blob: Path, sha256: str) -> bool:
    """Tell whether a file is there and what its name says; another process may be dropping it."""
    try:
        return blob.is_file() and sha256_of(blob) == sha256
    except DiskError:
        if blob.is_file():
            raise
        return False


def _protect(file: Path) -> None:
    """Keep a program that opens a linked file in a project from writing into the cache.

    Windows cannot delete what is read-only, so there it stays as it is.
    """
    if sys.platform != "win32":
        file.chmod(0o444)


def link_or_copy(source: Path, target: Path, *, may_link: bool) -> None:
    """Make `target`, which must not exist, the file `source`: a hard link where that may and can be, else a copy.

    Raises:
        DiskError: no space, or no permission.
    """
    size_bytes: int | None = None
    try:
        size_bytes = source.stat().st_size
        if not may_link or not _linked(source, target):
            shutil.copyfile(source, target)
    except OSError as error:
        raise disk_error(error, target, "write", needed_bytes=size_bytes) from error


def _linked(source: Path, target: Path) -> bool:
    """Make a hard link; False where the two are in different file systems, or theirs has no links."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EEXIST, errno.ENOENT):
            raise
        return False
    return True
