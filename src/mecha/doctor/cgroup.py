"""What a container or a service may take of the device: limits of the control group, version 2."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SYS = Path("/sys")


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """The narrowest limits around a process; None for none.

    Attributes:
        memory_bytes: that all processes of the group may take together.
        cpus: cores' worth of time, as in 1.5.
    """

    memory_bytes: int | None = None
    cpus: float | None = None


def group_limits(proc: Path = PROC, sys_root: Path = SYS) -> GroupLimits:
    """Return the limits of the group that this process is in, and of those around it."""
    memories: list[int] = []
    cpus: list[float] = []
    for folder in _groups(proc, sys_root / "fs/cgroup"):
        memory = _words(folder / "memory.max")
        if memory and memory[0].isdigit():
            memories.append(int(memory[0]))
        quota = _words(folder / "cpu.max")
        if len(quota) == 2 and all(word.isdigit() for word in quota) and int(quota[1]):  # noqa: PLR2004 - quota, period
            cpus.append(int(quota[0]) / int(quota[1]))
    return GroupLimits(min(memories, default=None), min(cpus, default=None))


def _groups(proc: Path, mounted: Path) -> Iterator[Path]:
    for line in _lines(proc / "self/cgroup"):
        if line.startswith("0::/"):
            own = mounted / line.removeprefix("0::/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(mounted))


def _words(file: Path) -> list[str]:
    lines = _lines(file)
    return lines[0].split() if lines else []


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
