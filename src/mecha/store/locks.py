"""One writer at a time, across processes, also where the file system only pretends to lock.

Two things are held: the kernel's lock on the lock file, and the note beside it, which is made as a new name (that fails
where it exists) and says which process holds the lock. Where the kernel's lock works, it alone decides. Where it lets
everybody in, as some network and FUSE file systems do, the note of a process that still runs keeps the others out. A
process of another machine cannot be looked at: there the lock of the file system is what there is.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.errors import BusyError
from mecha.store.atomic import make_dir, unfinished_path
from mecha.store.faults import disk_error
from mecha.store.process import ProcessId

if TYPE_CHECKING:
    from filelock import BaseFileLock

_POLL_S = 0.1
# Claims of this process: a note that names it and is not among them was left by a thread that did not come to its end.
_OWN: set[Path] = set()


@contextmanager
def exclusive(
    path: Path,
    *,
    timeout_s: float,
    doing: str = "",
    on_wait: Callable[[], None] | None = None,
    while_waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold a lock file. It stays when the lock is given back: removing it would let two processes in.

    The kernel gives the lock back when its holder dies. Who holds it is noted beside it, in `<path>.holder`: the lock
    file itself belongs to the locking library.

    Args:
        path: the lock file; its folder is made.
        timeout_s: how long to wait, 0 for not at all.
        doing: what it is held for, in a few words for those who wait: "pull of yolov8n".
        on_wait: called once when another process holds the lock and we start to wait for it.
        while_waiting: called some ten times a second while we wait.

    Raises:
        BusyError: another process still holds it; the message names its pid where known.
        DiskError: the lock file cannot be made.
    """
    import filelock

    make_dir(path.parent)
    # Another thread may give it back than the one that took it.
    lock = filelock.FileLock(path, thread_local=False)
    deadline = time.monotonic() + timeout_s
    waiting = False
    try:
        while not _taken(lock, path, doing):
            if time.monotonic() >= deadline:
                raise _busy(path, timeout_s)
            if not waiting and on_wait is not None:
                on_wait()
            waiting = True
            if while_waiting is not None:
                while_waiting()
            time.sleep(_POLL_S)
    except OSError as error:
        raise disk_error(error, path, "lock") from error
    try:
        yield
    finally:
        _unclaim(path)
        lock.release()


def _taken(lock: "BaseFileLock", path: Path, doing: str) -> bool:
    """Take the lock and claim it; False where another one has it."""
    import filelock

    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    claimed = False
    try:
        claimed = _claim(path, doing)
    finally:
        if not claimed:
            lock.release()
    return claimed


def holder(path: Path) -> ProcessId | None:
    """Return the process that holds a lock file, None when nobody does or it is not known."""
    return _noted(path)[0]


def holder_words(path: Path) -> str:
    """Say who holds a lock file, and what for where that was noted: `process 4711 (pull of yolov8n)`."""
    by, doing = _noted(path)
    who = "another process" if by is None else f"process {by.pid}"
    return f"{who} ({doing})" if doing else who


def _noted(path: Path) -> tuple[ProcessId | None, str]:
    """Return who noted that it holds a lock file, and what for; None and nothing where it is gone."""
    return _read_note(_holder_file(path))


def _read_note(file: Path) -> tuple[ProcessId | None, str]:
    try:
        who, _, doing = file.read_text(encoding="utf-8").partition("\n")
        pid, started, *where = who.split()
        noted = ProcessId(int(pid), int(started))
    except (OSError, ValueError):
        return None, ""
    # After the power was gone another process may have its pid and have started as long after the start of the machine.
    here = not where or where == _here().split()
    return (noted, doing.strip()) if here and noted.alive() else (None, "")


def _claim(path: Path, doing: str) -> bool:
    """Note that this process holds a lock; False where one that runs has noted the same."""
    file, me = _holder_file(path), ProcessId.current()
    note = f"{me.pid} {me.started} {_here()}".rstrip() + f"\n{doing}\n"
    while not _created(file, note):
        by = _read_note(file)[0]
        if by is not None and (by != me or path.absolute() in _OWN):
            return False
        _drop_stale(file, me)
    _OWN.add(path.absolute())
    return True


def _created(file: Path, note: str) -> bool:
    """Make a file with its text in one step; False where there is one already."""
    draft = unfinished_path(file, "tmp")
    draft.write_text(note, encoding="utf-8")
    try:
        file.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError:
        # No hard links in this file system: the name is still made by one process only, its text a moment later.
        try:
            with file.open("x", encoding="utf-8") as created:
                created.write(note)
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _drop_stale(file: Path, me: ProcessId) -> None:
    """Remove the note of a process that is gone, and none that took its place in this moment."""
    gone = unfinished_path(file, "tmp")
    try:
        file.rename(gone)
    except FileNotFoundError:
        return
    by = _read_note(gone)[0]
    if by not in (None, me):
        with suppress(OSError):
            file.hardlink_to(gone)
    gone.unlink(missing_ok=True)


def _unclaim(path: Path) -> None:
    # Where the lock file was swept while we held it, another one is held already, by somebody else.
    if _noted(path)[0] in (ProcessId.current(), None):
        _holder_file(path).unlink(missing_ok=True)
    _OWN.discard(path.absolute())


def _here() -> str:
    """Return this machine and its last start, as two words; nothing where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f"{socket.gethostname() or '-'} {boot}"


def _holder_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _busy(path: Path, timeout_s: float) -> BusyError:
    by = holder(path)
    who = holder_words(path) + (", this one" if by is not None and by.pid == os.getpid() else "")
    waited = f" after {timeout_s:g} s" if timeout_s > 0 else ""
    stop = "it" if by is None else f"process {by.pid}"
    return BusyError(f"{path}: held by {who}{waited}", hint=f"Wait until {stop} is done, or stop it, and try again.")
