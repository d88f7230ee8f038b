"""Work that gives way to everything else on the device."""

import contextlib
import sys

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
