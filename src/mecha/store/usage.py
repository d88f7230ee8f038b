"""When something of the cache was used last, and what it is called: one small file for each.

    <root>/used/<item>        its time is the last use, its content a name for people

Flash wears out by writing, so a use is noted once a day. The files of the cache themselves keep their time: they are
linked into projects, where a new time would look like a new model.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from mecha.errors import DiskError
from mecha.store.atomic import make_dir, write_file

DAY_S = 24 * 3600.0


class UseRecord:
    """The uses of one cache. What cannot be noted is not: the order of eviction is all that suffers."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "used"

    def note(self, item: str, name: str = "") -> None:
        """Note that an item is used now.

        Args:
            name: what people call it; "" leaves what is known.
        """
        file = self._folder / item
        with suppress(OSError, DiskError):
            try:
                noted = file.stat().st_mtime
            except FileNotFoundError:
                make_dir(self._folder)
                write_file(file, name.encode())
                return
            if name and self.name(item) != name:
                write_file(file, name.encode())
            elif abs(time.time() - noted) >= DAY_S:  # either way: a device without a battery starts in 1970
                os.utime(file)

    def last(self, item: str) -> float | None:
        """Return when an item was used last, seconds since the epoch, up to a day too early; None if never noted."""
        try:
            return (self._folder / item).stat().st_mtime
        except OSError:
            return None

    def name(self, item: str) -> str:
        """Return what people call an item, "" if nobody said."""
        try:
            return (self._folder / item).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def forget(self, item: str) -> None:
        """Drop what is known of an item."""
        with suppress(OSError):
            (self._folder / item).unlink(missing_ok=True)

    def items(self) -> tuple[str, ...]:
        """Return what anything is known of."""
        try:
            return tuple(sorted(entry.name for entry in self._folder.iterdir()))
        except OSError:
            return ()
