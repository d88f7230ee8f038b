"""Who needs what of the cache right now, so that nobody takes it away in between.

    <root>/leases/<item>~<pid>-<started>-<number>

A process asks for an item before it looks whether it is there; who evicts one looks whether somebody asked. Both do so
under one lock, held for a moment. A lease ends with its process.
"""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mecha.errors import BusyError, DiskError
from mecha.store.atomic import make_dir
from mecha.store.locks import exclusive
from mecha.store.process import ProcessId

_GUARD_TIMEOUT_S = 60.0
_LEASE = re.compile(r"(?P<item>.+)~(?P<pid>\d+)-(?P<started>\d+)-\d+")
_numbers = itertools.count()


class Leases:
    """The leases of one cache."""

    def __init__(self, root: Path) -> None:
        self._folder, self._guard = root / "leases", root / ".leases.lock"

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep leases as they are.

        Raises:
            BusyError: another process has kept them for a minute.
            DiskError: the cache cannot be written.
        """
        with exclusive(self._guard, timeout_s=_GUARD_TIMEOUT_S):
            yield

    def holder(self, item: str) -> ProcessId | None:
        """Return a process that needs an item, None when nobody does; leases of processes that are gone are dropped."""
        found: ProcessId | None = None
        for file in self._files():
            match = _LEASE.fullmatch(file.name)
            if match is None:
                continue
            process = ProcessId(int(match["pid"]), int(match["started"]))
            if not process.alive():
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            elif match["item"] == item:
                found = process
        return found

    def _files(self) -> tuple[Path, ...]:
        try:
            return tuple(self._folder.iterdir())
        except OSError:
            return ()

    def take(self, item: str) -> Path | None:
        """Note that this process needs an item; None where that cannot be noted, and nobody could evict either."""
        me = ProcessId.current()
        file = self._folder / f"{item}~{me.pid}-{me.started}-{next(_numbers)}"
        try:
            make_dir(self._folder)
            with self.guarded():
                file.touch()
        except (OSError, DiskError, BusyError):
            return None
        return file


class Lease:
    """What one piece of work needs; given back by `end`."""

    def __init__(self, leases: Leases) -> None:
        self._leases, self._held = leases, dict[str, Path | None]()

    def need(self, item: str) -> None:
        """Keep an item, whether it is there or will be, until the end."""
        if item not in self._held:
            self._held[item] = self._leases.take(item)

    def end(self) -> None:
        """Give everything back."""
        for file in filter(None, self._held.values()):
            with suppress(OSError):
                file.unlink(missing_ok=True)
        self._held.clear()
