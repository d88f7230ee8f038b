"""Who a process is, so that what it left behind can be told from what it still uses."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

NOT_TOLD = 0


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process of this machine. A pid alone is given to another process sooner or later.

    Attributes:
        started: when it started, in a unit that only compares; NOT_TOLD when the system does not tell.
    """

    pid: int
    started: int

    @classmethod
    def current(cls) -> "ProcessId":
        """Return this process."""
        pid = os.getpid()
        return cls(pid, _started(pid) or NOT_TOLD)

    def alive(self) -> bool:
        """Tell whether the process still runs; a killed one that nobody has waited for does not.

        A process of another container, which this one cannot see, counts as gone.
        """
        started = _started(self.pid)
        return started is not None and (started == self.started or NOT_TOLD in (started, self.started))


def resident_bytes() -> int:
    """Return the memory of this process that lies in RAM."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _started(pid: int) -> int | None:
    """Return when a process started, None when there is no such process."""
    if sys.platform == "linux":
        return _started_by_proc(pid)
    else:  # noqa: RET505 - a type checker skips the branch of the other system only where it is one
        return _started_by_psutil(pid)


def _started_by_proc(pid: int) -> int | None:
    """Return ticks since boot, which a clock that is set later does not move; psutil gives seconds of that clock."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the name of the program, in brackets, with whatever signs it has.
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else int(start_ticks)


def _started_by_psutil(pid: int) -> int | None:
    """Return milliseconds of the wall clock."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * 1000)
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return NOT_TOLD  # a process of another user, on some systems
