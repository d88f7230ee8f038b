"""A disk that is full for one process: what it opens for writing, and what it has open, fails with ENOSPC."""

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FULL = Path("/dev/full")
_OPEN = Path("/proc/self/fd")
_NO_DISK = ("/dev/", "/proc/", "/sys/", "/memfd:")
"""What is no disk, and never full: shared memory among it."""


class FullDisk:
    """Fills the disk, as this process sees it, and frees it again.

    Whatever Python opens for writing, and every folder it makes, is refused. Files that are open already are exchanged
    for /dev/full, where the system has one, so that the kernel refuses what is written to them; their own descriptors
    come back when the disk is free.

    Args:
        full: tells whether the disk is full now.
    """

    def __init__(self, full: Callable[[], bool]) -> None:
        self._full = full
        self._kept: dict[int, int] = {}

    def watch(self) -> None:
        """Look at every file that is opened from now on; a process cannot stop that again."""
        sys.addaudithook(self._look)

    def fill(self) -> None:
        """Refuse writes to files that are open now."""
        if not (_FULL.exists() and _OPEN.is_dir()):
            return
        device = os.open(_FULL, os.O_WRONLY)
        try:
            for descriptor in _written_files():
                if descriptor not in self._kept:
                    self._kept[descriptor] = os.dup(descriptor)
                    os.dup2(device, descriptor, inheritable=False)
        finally:
            os.close(device)

    def free(self) -> None:
        """Take writes to those files again; what was closed meanwhile stays closed."""
        while self._kept:
            descriptor, kept = self._kept.popitem()
            if _is_full(descriptor):
                os.dup2(kept, descriptor, inheritable=False)
            os.close(kept)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        elif event == "os.mkdir":
            path, writes = arguments[0], True
        else:
            return
        if writes and isinstance(path, str | bytes) and _on_disk(os.fsdecode(path)) and self._full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))


def _on_disk(path: str) -> bool:
    return not path.startswith(_NO_DISK)


def _written_files() -> list[int]:
    """Return the descriptors of regular files on disks that this process has open for writing."""
    import fcntl

    found = []
    for link in list(_OPEN.iterdir()):
        descriptor = int(link.name)
        try:
            path = str(link.readlink())
            access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:
            # The descriptor of the listing itself, or what another thread has closed since.
            continue
        if regular and access != os.O_RDONLY and _on_disk(path):
            found.append(descriptor)
    return found


def _is_full(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_rdev == _FULL.stat().st_rdev
    except OSError:
        return False
