"""What the operating system refuses, in sentences: no space, no permission, a read-only disk."""

import errno
import os
import shutil
import sys
from pathlib import Path

from mecha.errors import DiskError, NoSpaceError
from mecha.words import size_words

RESERVE_BYTES = 64_000_000
"""What `require_space` leaves free: a device whose disk is full to the last byte can no longer log, update or boot."""

_SPACE_HINT = "Free some space, or use another disk: models are in the project, downloads in MECHA_CACHE_DIR."


def disk_error(error: OSError, path: Path, doing: str, *, needed_bytes: int | None = None) -> DiskError:
    """Return the DiskError for an OSError.

    Args:
        error: what the system said.
        path: what was worked on.
        doing: what was tried, to follow "cannot": "write", "make the folder".
        needed_bytes: what was to be written, where known.
    """
    start = f"{path}: cannot {doing}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = size_words(free_bytes(path))
        needed = "" if needed_bytes is None else f", {size_words(needed_bytes)} needed"
        reason = "no space left" if error.errno == errno.ENOSPC else "quota used up"
        return NoSpaceError(f"{start}: {reason}: {free} free on {disk_of(path)}{needed}", hint=_SPACE_HINT)
    if error.errno in (errno.EACCES, errno.EPERM):
        folder = existing_folder(path)
        return DiskError(
            f"{start}: permission denied", hint=f"Make {folder} writable for this user, or work in another folder."
        )
    if error.errno == errno.EROFS:
        return DiskError(
            f"{start}: the file system is read-only", hint="Mount it writable, or work in a folder on another disk."
        )
    return DiskError(f"{start}: {(error.strerror or str(error)).lower()}")


def require_space(folder: Path, needed_bytes: int, *, what: str, present_bytes: int = 0, int8_bytes: int = 0) -> None:
    """Refuse to start what will not fit, RESERVE_BYTES left free.

    Args:
        folder: where it is written; need not exist yet.
        needed_bytes: its whole size.
        what: what is written, the subject of "needs".
        present_bytes: what of it is already there, a download to be resumed.
        int8_bytes: what making INT8 of it takes besides, and putting the model together.

    Raises:
        NoSpaceError: with the figures.
    """
    missing_bytes = needed_bytes - present_bytes + int8_bytes
    if missing_bytes <= 0:
        return
    free = free_bytes(folder)
    if free - missing_bytes >= RESERVE_BYTES:
        return
    more = f" ({size_words(present_bytes)} of it are there)" if present_bytes else ""
    int8 = f", INT8 and staging {size_words(int8_bytes)}" if int8_bytes else ""
    raise NoSpaceError(
        f"{folder}: {what} needs {size_words(needed_bytes)}{more}{int8} and {size_words(RESERVE_BYTES)} stay free; "
        f"got {size_words(free)} free on {disk_of(folder)}",
        hint=f"{size_words(missing_bytes + RESERVE_BYTES - free)} more are needed. {_SPACE_HINT}",
    )


def on_one_disk(first: Path, second: Path) -> bool:
    """Tell whether a file of one path can have a second name in the other; neither need exist yet.

    Two mounts of one file system are two: no link leads from one into the other. A service sees a folder that it may
    write in as a mount of its own.
    """
    folders = existing_folder(first), existing_folder(second)
    return folders[0].stat().st_dev == folders[1].stat().st_dev and _mount_of(folders[0]) == _mount_of(folders[1])


def _mount_of(folder: Path) -> str:
    """Return the number of the mount that a folder is in, "" where the system does not tell."""
    if sys.platform != "linux":
        return ""
    try:
        descriptor = os.open(folder, os.O_PATH)
        try:
            told = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return next((line.split()[1] for line in told.splitlines() if line.startswith("mnt_id:")), "")


def disk_of(path: Path) -> Path:
    """Return where the file system is mounted that a path is or will be in."""
    folder = existing_folder(path).resolve()
    while not folder.is_mount() and folder != folder.parent:
        folder = folder.parent
    return folder


def free_bytes(path: Path) -> int:
    """Return the bytes this user can still write where a path is or will be."""
    return shutil.disk_usage(existing_folder(path)).free


def existing_folder(path: Path) -> Path:
    """Return the nearest folder at or above a path that exists."""
    for folder in (path, *path.absolute().parents):
        if folder.is_dir():
            return folder
    return Path(path.absolute().anchor)
