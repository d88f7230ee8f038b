"""Lets the user of a service write in a project that belongs to somebody else: through the group of its files.

It is done by root in a folder that is not root's. So no link is followed, whatever takes its place at any moment; and
what belongs to others than the owner of the project, or has a second name somewhere, is left as it is.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mecha.errors import DiskError
from mecha.store.faults import disk_error

_WRITTEN = ("configs", "models", "calibration")
"""Folders of a project that a daemon writes in: settings that were changed, models, frames that it saw."""
_READ = ("nodes", "model_catalog.toml", "model_catalog.toml.minisig", "mecha.lock")


def grant_group(root: Path, group: int) -> int:
    """Give a group what the daemon needs of a project: to write where it writes, to read what it reads.

    Args:
        root: of the project; files are put in place beside mecha.lock, so its own folder too.
        group: number of the group.

    Returns:
        How many files and folders were changed.

    Raises:
        DiskError: the system refuses.
    """
    owner = root.stat().st_uid
    folder = _opened(root, None)
    try:
        _make_models(folder, owner)
        changed = _given(folder, group, owner, write=True)
        for name in (*_WRITTEN, *_READ):
            changed += _tree(folder, name, group, owner, write=name in _WRITTEN)
    except OSError as error:
        raise disk_error(error, root, "let the service write in the project") from error
    finally:
        os.close(folder)
    return changed


def _make_models(parent: int, owner: int) -> None:
    """Make the folder of the models for the owner of the project: made by the daemon, it would be closed to them."""
    try:
        os.mkdir("models", 0o755, dir_fd=parent)
        descriptor = os.open("models", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileExistsError:
        return
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchown(descriptor, owner, -1)
    finally:
        os.close(descriptor)


def _tree(parent: int, name: str, group: int, owner: int, *, write: bool) -> int:
    """Give a file, or a folder and all in it."""
    try:
        kind = stat.S_IFMT(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFREG):
            return 0
        descriptor = _opened(name, parent)
    except FileNotFoundError:
        return 0
    try:
        changed = _given(descriptor, group, owner, write=write)
        if kind == stat.S_IFDIR:
            for entry in _names(descriptor):
                changed += _tree(descriptor, entry, group, owner, write=write)
        return changed
    finally:
        os.close(descriptor)


def _given(descriptor: int, group: int, owner: int, *, write: bool) -> int:
    """Give one file or folder; 1 where that changed it."""
    status = os.fstat(descriptor)
    folder = stat.S_ISDIR(status.st_mode)
    if status.st_uid not in {owner, 0} or (not folder and status.st_nlink > 1):
        return 0
    mode = stat.S_IMODE(status.st_mode)
    wanted = mode | (mode >> 3 & 0o050) | (0o050 if folder else 0o040) | (0o020 if write else 0)
    if status.st_gid == group and wanted == mode:
        return 0
    os.fchown(descriptor, -1, group)
    os.fchmod(descriptor, wanted)
    return 1


def _opened(path: str | Path, parent: int | None) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except PermissionError as error:
        raise DiskError(f"{path}: permission denied", hint="Run it as root.") from error


def _names(descriptor: int) -> Iterator[str]:
    with os.scandir(descriptor) as entries:
        yield from [entry.name for entry in entries]
