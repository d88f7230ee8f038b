"""The folder behind a mirror: which files a repo has, their digests, and the commit that they are."""

import errno
import hashlib
import logging
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mecha.errors import DiskError
from mecha.hub.mirror_record import recorded_commit
from mecha.hub.source import RepoType

log = logging.getLogger(__name__)

# First parts of the Hub's own paths: a model owner of that name would hide them.
_RESERVED = frozenset({"api", "datasets", "spaces", "kernels", "buckets"})
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_READ_BYTES = 1 << 20
# The Hub keeps larger files outside git, by their sha256.
_GIT_FILE_BYTES = 10 << 20
# What a file that is not there, or not for this user, answers with. All else says nothing about what the folder holds.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class ServedFile:
    """One file of a repo as it was when its digest was taken.

    Attributes:
        path: relative to the repo, parts joined by "/".
        location: where it is on this disk; inside the served folder after all links are followed.
        git_sha1: the name git gives its content; None for a file too large for git.
    """

    path: str
    location: Path
    size_bytes: int
    mtime_ns: int
    sha256: str
    git_sha1: str | None

    @property
    def digests(self) -> frozenset[str]:
        """The names that the Hub may know its content by."""
        return frozenset({self.sha256} if self.git_sha1 is None else {self.sha256, self.git_sha1})

    def open(self) -> BinaryIO | None:
        """Open the file, or return None when it is gone or no longer the one that was hashed.

        Raises:
            DiskError: whether it is still there cannot be told now.
        """
        try:
            file = self.location.open("rb")
        except OSError as error:
            require_answered(self.location, error)
            return None
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.mtime_ns):
            file.close()
            return None
        return file


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All files of a repo at one moment.

    Attributes:
        commit: 40 hex digits: the Hub's, where the folder is known to be a copy of it, else made of paths and digests.
    """

    repo_id: str
    repo_type: RepoType
    commit: str
    files: tuple[ServedFile, ...]

    def has_revision(self, revision: str) -> bool:
        """Whether the revision names this snapshot: "main" or its commit."""
        return revision in {"main", self.commit}

    def find(self, path: str) -> ServedFile | None:
        """Return the file at a path; a path that leaves the repo is no file of it."""
        return next((file for file in self.files if file.path == path), None)


def commit_id(files: tuple[ServedFile, ...]) -> str:
    """Return 40 hex digits that are the same for the same paths and contents, on any machine."""
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()


class ServedFolder:
    """A folder laid out as `owner/name/file…` for models and `datasets/owner/name/file…` for datasets.

    Dotfiles are not served, nor are links that lead out of the folder. Digests are kept in memory by path, size and
    times, so that a file is read for hashing once for each of its versions. Safe to use from several threads.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._digests: dict[Path, tuple[tuple[int, ...], tuple[str, str | None]]] = {}
        self._hashing = threading.Lock()

    def repos(self) -> tuple[tuple[RepoType, str], ...]:
        """Return (type, "owner/name") of all repos."""
        models = [("model", name) for name in _repo_names(self.root) if name.split("/")[0] not in _RESERVED]
        datasets = [("dataset", name) for name in _repo_names(self.root / "datasets")]
        return (*models, *datasets)  # type: ignore[arg-type]  # the literals are widened to str in the list

    def snapshot(self, repo_type: RepoType, repo_id: str) -> Snapshot | None:
        """Return the files of a repo as they are now, or None when there is no such repo.

        Raises:
            DiskError: which files it has cannot be told now: the system has no files left, or the disk is broken.
        """
        owner, _, name = repo_id.partition("/")
        if not is_repo_name(owner, name) or (repo_type == "model" and owner in _RESERVED):
            return None
        top = self.root / "datasets" if repo_type == "dataset" else self.root
        repo = top / owner / name
        try:
            if any(not folder.is_dir() or folder.is_symlink() for folder in (repo, top / owner, top)):
                return None
        except OSError as error:
            require_answered(repo, error)
            return None
        found = (self._served(path, location) for path, location in self._walk(repo, ""))
        files = tuple(file for file in found if file is not None)
        try:
            commit = recorded_commit(repo, ((file.path, file.digests) for file in files))
        except OSError as error:
            require_answered(repo, error)
            commit = None
        return Snapshot(repo_id, repo_type, commit or commit_id(files), files)

    def _walk(self, folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
        try:
            with os.scandir(folder) as scan:
                entries = sorted((one.name, one.is_dir(follow_symlinks=False), one.is_symlink()) for one in scan)
        except OSError as error:
            require_answered(folder, error)
            log.warning("%s is not served: %s", folder, error.strerror)
            return
        for name, is_folder, is_link in entries:
            if name.startswith(".") or not _is_utf8(name):
                continue
            location = folder / name
            if is_folder:
                yield from self._walk(location, f"{prefix}{name}/")
            elif not is_link or self._stays_inside(location):
                yield f"{prefix}{name}", location

    def _stays_inside(self, link: Path) -> bool:
        target = Path(os.path.realpath(link))
        if not target.is_relative_to(self.root):
            return False
        return not any(part.startswith(".") for part in target.relative_to(self.root).parts)

    def _served(self, path: str, location: Path) -> ServedFile | None:
        try:
            status = location.stat()
            if not stat.S_ISREG(status.st_mode):
                return None
            sha256, git_sha1 = self._digest(location, status)
            return ServedFile(path, location, status.st_size, status.st_mtime_ns, sha256, git_sha1)
        except OSError as error:
            require_answered(location, error)
            log.warning("%s is not served: %s", location, error.strerror)
            return None

    def _digest(self, location: Path, status: os.stat_result) -> tuple[str, str | None]:
        # The change time is part of the key because a file can be rewritten with its modification time put back.
        version = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        with self._hashing:
            known = self._digests.get(location)
            if known is None or known[0] != version:
                known = version, _hash(location, status.st_size)
                self._digests[location] = known
            return known[1]


def require_answered(path: Path, error: OSError) -> None:
    """Tell a file that is not there, or may not be read, from one that nothing is known about.

    Raises:
        DiskError: nothing is known about it: what was made of the rest would be another repo.
    """
    if error.errno in _NOT_THERE:
        return
    raise DiskError(
        f"{path}: cannot be read: {error.strerror}",
        hint="Mend the disk, or raise the limit on open files; what has a name that starts with a dot is not read.",
    ) from error


def is_repo_name(owner: str, name: str) -> bool:
    """Whether a repo can be called so."""
    return bool(_NAME.fullmatch(owner) and _NAME.fullmatch(name))


def _hash(location: Path, size: int) -> tuple[str, str | None]:
    """Return the sha256 of a file, and git's name for it when it is small."""
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if size <= _GIT_FILE_BYTES else None
    with location.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            sha256.update(chunk)
            if git is not None:
                git.update(chunk)
    return sha256.hexdigest(), git.hexdigest() if git is not None else None


def _repo_names(top: Path) -> list[str]:
    if not top.is_dir() or top.is_symlink():
        return []
    owners = [owner for owner in sorted(top.iterdir()) if _is_named_folder(owner)]
    return [
        f"{owner.name}/{repo.name}" for owner in owners for repo in sorted(owner.iterdir()) if _is_named_folder(repo)
    ]


def _is_named_folder(path: Path) -> bool:
    return bool(_NAME.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
