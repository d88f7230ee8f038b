"""One writer at a time, across processes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mecha.errors import BusyError
from mecha.store.atomic import make_dir
from mecha.store.faults import disk_error
from mecha.store.process import ProcessId

_POLL_S = 0.1


@contextmanager
def exclusive(
    path: Path, *, timeout_s: float, doing: str = "", on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold a lock file. It stays when the lock is given back: removing it would let two processes in.

    The kernel gives the lock back when its holder dies. Who holds it is noted beside it, in `<path>.holder`: the lock
    file itself belongs to the locking library.

    Args:
        path: the lock file; its folder is made.
        timeout_s: how long to wait, 0 for not at all.
        doing: what it is held for, in a few words for those who wait: "pull of yolov8n".
        on_wait: called once when another process holds the lock and we start to wait for it.

    Raises:
        BusyError: another process still holds it; the message names its pid where known.
        DiskError: the lock file cannot be made.
    """
    import filelock

    make_dir(path.parent)
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if timeout_s <= 0:
                raise
            if on_wait is not None:
                on_wait()
            lock.acquire(timeout=timeout_s, poll_interval=_POLL_S)
    except filelock.Timeout as error:
        raise _busy(path, timeout_s) from error
    except OSError as error:
        raise disk_error(error, path, "lock") from error
    try:
        _note_holder(path, doing)
        yield
    finally:
        _holder_file(path).unlink(missing_ok=True)
        lock.release()


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
    try:
        who, _, doing = _holder_file(path).read_text(encoding="utf-8").partition("\n")
        pid, started = who.split()
        noted = ProcessId(int(pid), int(started))
    except (OSError, ValueError):
        return None, ""
    return (noted, doing.strip()) if noted.alive() else (None, "")


def _note_holder(path: Path, doing: str) -> None:
    me = ProcessId.current()
    try:
        _holder_file(path).write_text(f"{me.pid} {me.started}\n{doing}\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(error, path, "note who holds the lock") from error


def _holder_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _busy(path: Path, timeout_s: float) -> BusyError:
    by = holder(path)
    who = holder_words(path) + (", this one" if by is not None and by.pid == os.getpid() else "")
    waited = f" after {timeout_s:g} s" if timeout_s > 0 else ""
    stop = "it" if by is None else f"process {by.pid}"
    return BusyError(f"{path}: held by {who}{waited}", hint=f"Wait until {stop} is done, or stop it, and try again.")
