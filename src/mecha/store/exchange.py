"""Exchange two paths in one step, where the operating system can."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

Exchange = Callable[[Path, Path], bool]
"""Exchanges two existing paths of one file system and returns True, or changes nothing and returns False."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # sys/stdio.h of macOS


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths by renameat2 (Linux) or renamex_np (macOS); False where system or file system cannot."""
    if sys.platform not in ("linux", "darwin"):
        return False
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    source, target = os.fsencode(first), os.fsencode(second)
    try:
        if sys.platform == "linux":
            result = libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_EXCHANGE)
        else:
            result = libc.renamex_np(source, target, _RENAME_SWAP)
    except AttributeError:
        return False  # a C library older than the call
    # Whatever the reason is (an old kernel, vfat, a filter of system calls), plain renames are tried next and tell.
    return bool(result == 0)


def no_exchange(_first: Path, _second: Path) -> bool:
    """Exchange nothing, as on systems without the call."""
    return False
