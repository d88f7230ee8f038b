"""A process that works for another one: it gives way to everything else, and never outlives its parent."""

import contextlib
import os
import sys
import threading

import psutil

NICENESS = 10


def give_way(*, disk_too: bool = False) -> None:
    """Lower the priority of this process and of those it will start.

    Args:
        disk_too: read and write only while nobody else does, where the system has such a class.
    """
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        return
    # Not added to what a parent has given way already.
    process.nice(max(NICENESS, process.nice()))
    if disk_too and sys.platform == "linux":
        # Some containers refuse it, and it only spares others.
        with contextlib.suppress(psutil.Error, OSError):
            process.ionice(psutil.IOPRIO_CLASS_IDLE)


def end_with_parent() -> None:
    """End this process when its standard input closes: the parent holds the other end for as long as it lives."""
    threading.Thread(target=_end_at_the_end_of_input, name="lifeline", daemon=True).start()


def _end_at_the_end_of_input() -> None:
    # Not sys.stdin: a thread inside of it keeps the interpreter from ending.
    with contextlib.suppress(OSError):
        while os.read(0, 64):
            pass
    os._exit(1)
