"""What a gateway keeps of its upstream, in a folder of its own inside the folder that it serves.

    <root>/blobs/<sha256>          whole files, by content
    <root>/partial/<key>           files on their way, as any download keeps them
    <root>/entries/<key>.json      what a path of a repo is at a revision
    <root>/answers/<key>.json      what the upstream said about a repo

A name that a client sends never becomes part of a path here: keys are digests.
"""

import hashlib
import json
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mecha.errors import DiskError
from mecha.hub.source import RemoteFile, RepoType
from mecha.store.atomic import make_dir, remove, sweep, write_file
from mecha.store.blobs import BlobCache
from mecha.store.cached import contents, item_of
from mecha.store.eviction import evict, over_quota
from mecha.store.leftovers import PARTIAL_KEPT_S, partials, sweep_leftover

# A fleet asks some ten questions of a repo, and an answer is some kB.
_ANSWERS = 2000
_ANSWERS_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the upstream at one commit.

    Attributes:
        etag: the upstream's, without quotes.
        sha256: as the upstream says, None for small files.
        content: sha256 of the bytes that are kept, None until they are whole.
    """

    repo: str
    repo_type: RepoType
    path: str
    commit: str
    etag: str
    size_bytes: int | None
    sha256: str | None
    content: str | None = None

    @property
    def key(self) -> str:
        """What names the bytes on their way: repos that share a file share its download."""
        return self.sha256 or _digest("bytes", self.repo_type, self.repo, self.commit, self.path)


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer of the upstream's API: JSON text, and where its next page is."""

    body: str
    link: str = ""


def entry_of(remote: RemoteFile) -> Entry:
    """Return the entry of a file that the upstream has."""
    return Entry(
        remote.repo,
        remote.repo_type,
        remote.filename,
        remote.commit,
        remote.etag,
        remote.size_bytes,
        remote.sha256,
    )


class GatewayStore:
    """Entries, answers and files on disk; safe to use from several threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cache = BlobCache(root)
        self._read: dict[Path, tuple[int, int, int]] = {}
        self._reading = threading.Lock()

    def sweep(self) -> None:
        """Remove what nobody went on with for three days, and what processes that are gone left unfinished."""
        # What cannot be removed, as on a disk that is read-only, can be served from all the same.
        with suppress(DiskError):
            for kind in ("blobs", "entries", "answers"):
                sweep(self.root / kind)
            for partial in partials(self.root):
                if partial.age_s >= PARTIAL_KEPT_S:
                    sweep_leftover(partial)
        self._trim_answers()

    def keep_within(self, most_bytes: int, *, coming_bytes: int = 0, needed: Collection[str] = ()) -> None:
        """Remove whole files, those first that nobody asked for for longest, until the others take no more than this.

        What a client is just getting goes on to it. What is removed is fetched again when somebody asks for it.

        Args:
            coming_bytes: that will be added.
            needed: sha256 of those that stay, however large they are.
        """
        stays = {item_of("download", sha256): "somebody waits for it" for sha256 in needed}
        for cached in over_quota(contents(self.root), stays, most_bytes, besides_bytes=coming_bytes):
            # One that cannot be removed leaves a fuller disk, and nobody without an answer.
            with suppress(DiskError):
                evict(self.root, cached)

    def entry(self, repo_type: RepoType, repo: str, revision: str, path: str) -> Entry | None:
        """Return what is known of a path at a revision: a commit, or a branch when it was asked for last."""
        found = self._load("entries", _digest(repo_type, repo, revision, path))
        try:
            return Entry(**found) if found is not None else None
        except TypeError:
            return None

    def put(self, entry: Entry, revision: str) -> None:
        """Keep what a path is at a revision, and at its commit.

        Raises:
            DiskError: it cannot be written.
        """
        for name in dict.fromkeys((entry.commit, revision)):
            known = self.entry(entry.repo_type, entry.repo, name, entry.path)
            if known != entry:
                self._save("entries", _digest(entry.repo_type, entry.repo, name, entry.path), asdict(entry))

    def answer(self, question: str) -> Stored | None:
        """Return what the upstream said the last time."""
        found = self._load("answers", _digest(question))
        try:
            return Stored(**found) if found is not None else None
        except TypeError:
            return None

    def put_answer(self, question: str, answer: Stored) -> None:
        """Keep what the upstream said, and no more than so much of it: the oldest go. Raises as `put`."""
        self._save("answers", _digest(question), asdict(answer))
        self._trim_answers()

    def blob(self, entry: Entry) -> Path | None:
        """Return the whole file of an entry, None while it is not here.

        Its digest is compared the first time that this process meets it, and again when it was touched.
        """
        content = entry.content or entry.sha256
        if content is None:
            return None
        path = self._cache.path(content)
        with self._reading:
            if _version(path) is None or _version(path) != self._read.get(path):
                if self._cache.find(content) is None:
                    self._read.pop(path, None)
                    return None
                version = _version(path)
                if version is not None:
                    self._read[path] = version
            self._cache.called("download", content, f"{entry.repo}/{entry.path}")
            return path

    def partial(self, key: str) -> Path:
        """Return where the bytes of a file on its way are."""
        return self._cache.partial(key)

    def adopt(self, partial: Path, sha256: str) -> Path:
        """Take a finished download. Raises as `put`."""
        return self._cache.adopt(partial, sha256)

    def _trim_answers(self) -> None:
        found = []
        for path in (self.root / "answers").glob("*.json"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total_bytes, count = sum(size for _, size, _ in found), len(found)
        for _, size, path in sorted(found):
            if count <= _ANSWERS and total_bytes <= _ANSWERS_BYTES:
                return
            remove(path)
            total_bytes, count = total_bytes - size, count - 1

    def _load(self, kind: str, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.root / kind / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _save(self, kind: str, key: str, value: dict[str, Any]) -> None:
        make_dir(self.root / kind)
        write_file(self.root / kind / f"{key}.json", json.dumps(value).encode())


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
