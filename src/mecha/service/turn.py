"""Waiting for another process that works on the same thing, and saying so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mecha.progress import ATTACHED, WAITING, Progress
from mecha.service.attachment import Reached
from mecha.store.locks import exclusive, holder_words


@contextmanager
def turn(
    lock: Path, doing: str, progress: Progress, *, timeout_s: float, watch: Callable[[], Reached | None] | None = None
) -> Iterator[None]:
    """Hold a lock; who else holds it is told to `progress`, once, before the wait for it begins.

    Args:
        lock: the lock file.
        doing: what it is held for, in a few words for those who wait.
        progress: told of the stage "waiting for process 4711 (pull of yolov8n)".
        timeout_s: how long to wait.
        watch: how far the download of the other one is; told to `progress` while we wait, as our own would be.

    Raises:
        BusyError: the other one took longer.
        DiskError: the lock file cannot be made.
    """

    def tell() -> None:
        progress(f"{WAITING}{holder_words(lock)}", 0, None)

    def show() -> None:
        reached = watch() if watch is not None else None
        if reached is not None:
            progress(ATTACHED, reached.size_bytes, reached.total_bytes)

    with exclusive(lock, timeout_s=timeout_s, doing=doing, on_wait=tell, while_waiting=show):
        yield
