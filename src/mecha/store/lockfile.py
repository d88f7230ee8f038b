"""mecha.lock: the commit, digest and size of every pulled file, so that each device of a fleet gets the same bytes.

The file is committed with the project. A pull takes from it what a moving name such as "main" meant when it was
written.
"""

from collections.abc import Collection
from pathlib import Path

import tomli
import tomlkit
from pydantic import Field, ValidationError

from mecha.errors import ConfigError
from mecha.store.atomic import discard, write_file
from mecha.store.locks import exclusive
from mecha.store.spec import Frozen

_GUARD_TIMEOUT_S = 60.0
_HEADER = "Written by mecha: what every pulled file was. Commit it; `mecha models pull NAME --force` renews an entry."


class LockedFile(Frozen):
    """One pulled file.

    Attributes:
        requested: the revision that was asked for ("main").
        revision: the commit it meant.
        sha256: lower-case hex.
    """

    repo: str
    repo_type: str = "model"
    filename: str
    requested: str
    revision: str
    etag: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What the entry is looked up by."""
        return (self.repo_type, self.repo, self.filename, self.requested)


class LockFile:
    """Reads and rewrites one mecha.lock; the file need not exist.

    Args:
        path: the file.
        guard: the file that processes lock while they rewrite it; not beside it, because `path` is committed.
    """

    def __init__(self, path: Path, guard: Path) -> None:
        self._path, self._guard = path, guard

    def entries(self) -> tuple[LockedFile, ...]:
        """Return all entries, sorted.

        Raises:
            ConfigError: the file is not what mecha writes.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        hint = "restore it from version control, or delete it and pull again"
        try:
            files = tomli.loads(text).get("files", [])
            return tuple(sorted((LockedFile.model_validate(item) for item in files), key=lambda item: item.identity))
        except tomli.TOMLDecodeError as error:
            raise ConfigError(f"{self._path.name}:{error.lineno}: not TOML: {error.msg}", hint=hint) from error
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise ConfigError(f"{self._path.name}: files.{place}: {fault['msg']}", hint=hint) from error

    def find(self, repo: str, filename: str, *, requested: str, repo_type: str = "model") -> LockedFile | None:
        """Return the entry of a file at a requested revision, or None."""
        wanted = (repo_type, repo, filename, requested)
        return next((item for item in self.entries() if item.identity == wanted), None)

    def put(self, item: LockedFile) -> None:
        """Add or replace one entry; the file is rewritten whole, and only when it changes.

        Raises:
            ConfigError: the file is not what mecha writes.
            DiskError: it cannot be written.
            BusyError: another process has been rewriting it for a minute.
        """
        if item in self.entries():
            return
        with exclusive(self._guard, timeout_s=_GUARD_TIMEOUT_S):
            self._write({entry.identity: entry for entry in self.entries()} | {item.identity: item})

    def drop(self, identities: Collection[tuple[str, str, str, str]]) -> None:
        """Remove entries; a file that holds no other goes.

        Raises:
            ConfigError, DiskError, BusyError: as `put`.
        """
        if not identities:
            return
        with exclusive(self._guard, timeout_s=_GUARD_TIMEOUT_S):
            kept = {entry.identity: entry for entry in self.entries() if entry.identity not in identities}
            if kept:
                self._write(kept)
            else:
                discard(self._path)

    def _write(self, kept: dict[tuple[str, str, str, str], LockedFile]) -> None:
        document = tomlkit.document()
        document.add(tomlkit.comment(_HEADER))
        tables = tomlkit.aot()
        for identity in sorted(kept):
            table = tomlkit.table()
            table.update(kept[identity].model_dump())
            tables.append(table)
        document.add("files", tables)
        write_file(self._path, tomlkit.dumps(document).encode())
