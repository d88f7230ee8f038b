"""How much shared memory the bus may ask for: the system refuses all of it when it is a byte too much."""

import os
import re
import sys
from pathlib import Path

_WANTED_BYTES = 32 * 1024 * 1024
"""Five 1080p frames."""
_LEAST_BYTES = 1024 * 1024
_BOOKKEEPING_BYTES = 1_500_000
"""Zenoh's own tables, which it locks in memory beside the pool."""


def shared_memory_bytes() -> int:
    """Return the size of this process's pool, 0 for none."""
    if sys.platform == "win32":
        return _WANTED_BYTES
    return pool_bytes(_lockable_bytes(), _free_bytes(Path("/dev/shm")))  # noqa: S108 - the system's, not a file of ours


def pool_bytes(lockable_bytes: int | None, free_bytes: int | None) -> int:
    """Return the size of a pool.

    Zenoh locks its pool in memory. Past RLIMIT_MEMLOCK, or on a /dev/shm that is too small (64 MB in a container), it
    sends through the socket instead, which costs six times as much; a pool of one frame is enough for most of the gain.

    Args:
        lockable_bytes: what the process may lock, None for no limit.
        free_bytes: free space of /dev/shm, None where there is none.
    """
    size = _WANTED_BYTES
    if lockable_bytes is not None:
        size = min(size, lockable_bytes - _BOOKKEEPING_BYTES)
    if free_bytes is not None:
        size = min(size, free_bytes // 2)
    return size if size >= _LEAST_BYTES else 0


def _lockable_bytes() -> int | None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY or _may_lock_all() else soft


def _may_lock_all() -> bool:
    """Tell whether the limit does not hold for this process: root in a container has it all the same."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return False
    return may_lock_all(status)


def may_lock_all(status: str) -> bool:
    """Tell from /proc/self/status whether a process may lock as much memory as it likes (CAP_IPC_LOCK, bit 14)."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> 14 & 1)


def _free_bytes(folder: Path) -> int | None:
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
