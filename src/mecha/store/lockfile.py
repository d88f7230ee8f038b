"""mecha.lock: the commit, digest and size of every pulled file, so that each device of a fleet gets the same bytes.

The file is committed with the project. A pull takes from it what a moving name such as "main" meant when it was
written.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

import tomli
from pydantic import ValidationError

from mecha.errors import ConfigError
from mecha.store.atomic import discard, disk_error, write_file
from mecha.store.locks import exclusive
from mecha.store.pins import Identity, LockedFile
from mecha.words import written

__all__ = ["DeferredLock", "FrozenLock", "LockFile", "LockedFile"]

_VERSION = 1
_GUARD_TIMEOUT_S = 60.0
_HEADER = "Written by mecha: what every pulled file was. Commit it; `mecha models pull NAME --force` renews an entry."


class LockFile:
    """Reads and rewrites one mecha.lock; the file need not exist.

    Args:
        path: the file.
        guard: the file that processes lock while they rewrite it; not beside it, because `path` is committed.
    """

    def __init__(self, path: Path, guard: Path) -> None:
        self._path, self._guard = path, guard
        self._used: dict[Identity, LockedFile] = {}

    @property
    def used(self) -> tuple[LockedFile, ...]:
        """Every entry that was put by this object, sorted: the files of what was made with it."""
        return tuple(self._used[identity] for identity in sorted(self._used))

    def entries(self) -> tuple[LockedFile, ...]:
        """Return all entries, sorted.

        Raises:
            ConfigError: the file is not what mecha writes.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise disk_error(error, self._path, "read") from error
        hint = "restore it from version control, or delete it and pull again"
        try:
            document = tomli.loads(content.decode())
            self._require_known(document.get("version", _VERSION))
            files = document.get("files", [])
            if not isinstance(files, list):
                raise ConfigError(f"{self._path.name}: files: got {written(files)}; expected tables", hint=hint)
            return tuple(sorted((LockedFile.model_validate(item) for item in files), key=lambda item: item.identity))
        except tomli.TOMLDecodeError as error:
            raise ConfigError(f"{self._path.name}:{error.lineno}: not TOML: {error.msg}", hint=hint) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self._path.name}: byte {error.start} is not UTF-8 text", hint=hint) from error
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise ConfigError(f"{self._path.name}: files.{place}: {fault['msg']}", hint=hint) from error
        except (ValueError, RecursionError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else "a number of thousands of digits"
            raise ConfigError(f"{self._path.name}: not TOML: {what}", hint=hint) from error

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
        self._used[item.identity] = item
        self.put_all((item,))

    def put_all(self, items: Iterable[LockedFile]) -> None:
        """Add or replace entries, all of them in one step. Raises as `put`."""
        wanted = {item.identity: item for item in items}
        if set(wanted.values()) <= set(self.entries()):
            return
        with exclusive(self._guard, timeout_s=_GUARD_TIMEOUT_S):
            self._write({entry.identity: entry for entry in self.entries()} | wanted)

    def drop(self, identities: Collection[Identity]) -> None:
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

    def _write(self, kept: dict[Identity, LockedFile]) -> None:
        import tomlkit

        document = tomlkit.document()
        document.add(tomlkit.comment(_HEADER))
        document.add("version", tomlkit.item(_VERSION))
        tables = tomlkit.aot()
        for identity in sorted(kept):
            table = tomlkit.table()
            table.update(kept[identity].model_dump())
            tables.append(table)
        document.add("files", tables)
        write_file(self._path, tomlkit.dumps(document).encode())

    def _require_known(self, version: object) -> None:
        if version != _VERSION:
            raise ConfigError(
                f"{self._path.name}: version: got {version}; expected {_VERSION}",
                hint="A newer mecha wrote it: install that one here, or write the file with this one.",
            )


class DeferredLock(LockFile):
    """mecha.lock as it will be: what is put is kept aside, and found again, until somebody writes it into the file.

    Args:
        pins: entries that count in the place of those in the file.
    """

    def __init__(self, path: Path, guard: Path, pins: Iterable[LockedFile] = ()) -> None:
        super().__init__(path, guard)
        self._pins = {pin.identity: pin for pin in pins}

    def find(self, repo: str, filename: str, *, requested: str, repo_type: str = "model") -> LockedFile | None:
        """Return the entry as it will be, else as it is in the file."""
        pinned = (self._pins | self._used).get((repo_type, repo, filename, requested))
        return pinned or super().find(repo, filename, requested=requested, repo_type=repo_type)

    def put_all(self, items: Iterable[LockedFile]) -> None:
        """Keep entries aside."""
        self._used |= {item.identity: item for item in items}


class FrozenLock(LockFile):
    """mecha.lock that says what may be brought, and is never written."""

    def put_all(self, items: Iterable[LockedFile]) -> None:
        """Refuse what is not in the file already, byte for byte the same; the commit may have another name.

        Raises:
            ConfigError: it is not.
        """
        locked = {entry.identity: entry.sha256 for entry in self.entries()}
        for item in items:
            if locked.get(item.identity) != item.sha256:
                raise ConfigError(
                    f"{self._path.name}: got {self._words(locked.get(item.identity))} for {item.where} at "
                    f"{item.requested}; expected sha256 {item.sha256}: it is frozen, and was not changed",
                    hint="Pull without --frozen where the project is kept, and commit mecha.lock.",
                )

    def drop(self, identities: Collection[Identity]) -> None:
        """Change nothing."""

    @staticmethod
    def _words(sha256: str | None) -> str:
        return "no entry" if sha256 is None else f"sha256 {sha256}"
