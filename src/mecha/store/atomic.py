"""Files and folders that appear whole or not at all, whenever the power goes.

Whatever is not finished has a name that starts with "." and holds the process that makes it:
`.<name>.<pid>-<start>-<number>.<kind>`. `sweep` removes such leftovers of processes that are gone.

A folder takes the place of another by an exchange of the two names in one step. Where the system has no such call,
`<name>` is renamed to `.<name>.previous` and the new one to `<name>`. Between the two, `<name>` is missing and
`.<name>.previous` is what counts: the rule that `current_dir` reads by.
"""

import errno
import itertools
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Literal

from mecha.store.exchange import Exchange, exchange
from mecha.store.faults import RESERVE_BYTES, disk_error, require_space
from mecha.store.process import ProcessId

__all__ = [
    "RESERVE_BYTES",
    "UNFINISHED",
    "current_dir",
    "discard",
    "disk_error",
    "fsync_dir",
    "fsync_file",
    "fsync_tree",
    "make_dir",
    "remove",
    "replace_dir",
    "require_space",
    "sweep",
    "unfinished_path",
    "write_file",
]

Kind = Literal["tmp", "staging", "removed"]

UNFINISHED = re.compile(r"\..+\.(?P<pid>\d+)-(?P<started>\d+)-\d+\.(?:tmp|staging|removed)")
_numbers = itertools.count()
# How often another process may remove a folder while this one puts a new one in its place.
_LOOKS = 10


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put bytes where a reader sees the old file or the new one, and a power cut leaves one of them.

    Raises:
        DiskError: nothing was changed.
    """
    temporary = unfinished_path(path, "tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path, "write", needed_bytes=len(data)) from error
    finally:
        temporary.unlink(missing_ok=True)
    fsync_dir(path.parent)


def replace_dir(staged: Path, final: Path, *, swap: Exchange = exchange) -> None:
    """Put a finished folder in the place of `final`, which may exist: a reader finds the old or the new one.

    Both must be in one file system, and the files in `staged` on the disk already (`fsync_tree`).

    Args:
        swap: how two names are exchanged in one step.

    Raises:
        DiskError: `final` is as it was.
    """
    try:
        _put(staged, final, swap)
    except OSError as error:
        raise disk_error(error, final, "put the new folder in place") from error
    fsync_dir(final.parent)
    discard(staged)
    discard(previous_dir(final))


def _put(staged: Path, final: Path, swap: Exchange) -> None:
    for _ in range(_LOOKS):
        there = os.path.lexists(final)
        try:
            if not there:
                staged.rename(final)
            elif not swap(staged, final):
                _replace_in_two_steps(staged, final)
        except FileNotFoundError:
            # Another process removed what was there between the look and the exchange.
            if there and os.path.lexists(staged):
                continue
            raise
        return
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(final))


def _replace_in_two_steps(staged: Path, final: Path) -> None:
    previous = previous_dir(final)
    discard(previous)
    final.rename(previous)
    try:
        staged.rename(final)
    except OSError:
        previous.rename(final)
        raise


def previous_dir(final: Path) -> Path:
    """Return where the old folder is while the new one is put in place."""
    return final.with_name(f".{final.name}.previous")


def current_dir(final: Path) -> Path | None:
    """Return the folder that counts: `final`, or what it was when a process died while putting a new one in place."""
    for folder in (final, previous_dir(final)):
        if folder.is_dir():
            return folder
    return None


def discard(path: Path) -> None:
    """Remove a file or folder so that no reader sees a part of it; what cannot be removed now is swept later."""
    if not os.path.lexists(path):
        return
    removed = unfinished_path(path, "removed")
    try:
        path.rename(removed)
    except FileNotFoundError:
        return  # another process removes the same
    except OSError as error:
        raise disk_error(error, path, "remove") from error
    if removed.is_dir():
        # Or a power cut could leave a part of it under the name that it had.
        fsync_dir(removed.parent)
    remove(removed)


def sweep(folder: Path) -> tuple[Path, ...]:
    """Remove what processes that are gone left unfinished in a folder; return what was found."""
    found: list[Path] = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        match = UNFINISHED.fullmatch(entry.name)
        if match is not None and not ProcessId(int(match["pid"]), int(match["started"])).alive():
            found.append(entry)
            remove(entry)
    return tuple(found)


def unfinished_path(path: Path, kind: Kind) -> Path:
    """Return a new name beside `path` for what this process is going to finish there."""
    me = ProcessId.current()
    name = path.name.lstrip(".")
    return path.with_name(f".{name}.{me.pid}-{me.started}-{next(_numbers)}.{kind}")


def make_dir(folder: Path) -> None:
    """Make a folder and those above it; a power cut leaves what is synced in it later.

    Raises:
        DiskError: it cannot be made.
    """
    try:
        missing = tuple(itertools.takewhile(lambda above: not above.exists(), (folder, *folder.parents)))
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder, "make the folder") from error
    for made in missing:
        fsync_dir(made.parent)


def fsync_dir(path: Path) -> None:
    """Bring the names in a folder to the disk. Windows has no such call, and writes them in order.

    Raises:
        DiskError: the disk refuses.
    """
    if sys.platform == "win32":
        return
    _sync_path(path, os.O_RDONLY)


def fsync_tree(folder: Path) -> None:
    """Bring everything in a folder to the disk: contents first, then names.

    Raises:
        DiskError: the disk refuses, or is full: some file systems find out only now.
    """
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            fsync_file(Path(root, name))
        fsync_dir(Path(root))


def fsync_file(path: Path) -> None:
    """Bring the content of a file to the disk. Raises DiskError when the disk refuses."""
    # Windows flushes only what is open for writing.
    _sync_path(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)


def _sync_path(path: Path, flags: int) -> None:
    try:
        descriptor = os.open(path, flags)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise disk_error(error, path, "bring to the disk") from error


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        # fsync of macOS leaves the data in the cache of the drive.
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def remove(path: Path) -> None:
    """Delete a file or folder as far as possible: another process may be deleting the same."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # still in use on Windows, or no longer ours; the next sweep tries again
