"""What processes of this user may take: cores, memory, open files, shared memory."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from mecha.doctor.cgroup import GroupLimits, group_limits
from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.project import Settings
from mecha.words import counted, size_words

_LEAST_MEMORY_BYTES = 300_000_000
"""A node with both precisions of a small detector, its camera and the supervisor."""
_LEAST_FILES = 256
_ENOUGH_FILES = 1024
_BUILD_SHARE = 0.7
"""Of the memory of a device, what a build may take: the rest is for nodes and the system."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What was measured; None for no limit, or one that the system does not tell.

    Attributes:
        cores: physical ones that this process may run on.
        threads: of a session where nobody says how many.
        group: of the container or service around.
        memory_bytes: of the device; available_bytes: of it, what is free or can be freed.
        address_bytes: RLIMIT_AS; files: RLIMIT_NOFILE.
        pool_bytes: of shared memory that a node can have for its frames.
    """

    cores: int
    threads: int
    group: GroupLimits
    memory_bytes: int
    available_bytes: int
    address_bytes: int | None
    files: int | None
    pool_bytes: int


def measured_limits() -> Limits:
    """Return the limits of this process."""
    import psutil

    from mecha.detect.session import default_threads, usable_cores
    from mecha.runtime.bus.memory import shared_memory_bytes

    memory = psutil.virtual_memory()
    return Limits(
        cores=usable_cores(),
        threads=default_threads(),
        group=group_limits(),
        memory_bytes=memory.total,
        available_bytes=memory.available,
        address_bytes=_resource("RLIMIT_AS"),
        files=_resource("RLIMIT_NOFILE"),
        pool_bytes=shared_memory_bytes(),
    )


def limit_findings(settings: Settings, limits: Limits | None = None) -> Iterator[Finding]:
    """Give what the limits mean for nodes and builds.

    Args:
        limits: those of this process by default.
    """
    found = measured_limits() if limits is None else limits
    yield _threads(found)
    yield from _memory(found, settings)
    yield _files(found)
    yield _pool(found)


def _threads(found: Limits) -> Finding:
    what = f"{counted(found.cores, 'core')}, {counted(found.threads, 'thread')} a session"
    quota = found.group.cpus
    if quota is not None and quota < found.threads:
        return note(
            "threads",
            f"{what}, and the container or service may use {quota:.2g} cores' worth of time",
            "A session then stands still in the middle of a frame until its time comes again: latency jumps.",
            f'Raise the limit (CPUQuota=, --cpus), or set "threads" to {max(int(quota), 1)} in the config.json of '
            "the detectors.",
        )
    return ok("threads", what)


def _memory(found: Limits, settings: Settings) -> Iterator[Finding]:
    limits = [found.memory_bytes, found.group.memory_bytes, found.address_bytes]
    most = min(limit for limit in limits if limit is not None)
    what = f"{size_words(found.available_bytes)} of {size_words(found.memory_bytes)} are free"
    if most < found.memory_bytes:
        what += f", and {size_words(most)} may be used at most"
    if min(most, found.available_bytes) < _LEAST_MEMORY_BYTES:
        yield wrong(
            "memory",
            what,
            f"A camera and a small detector take {size_words(_LEAST_MEMORY_BYTES)}: the system would end them.",
            "Stop other programs, raise the limit, or add swap; `memory_limit_mb` of a detector keeps one precision.",
        )
    else:
        yield ok("memory", what)
    build_bytes = settings.quantize.memory_limit_mb * 1_000_000
    if build_bytes > most:
        yield note(
            "memory",
            f"a build of INT8 may take {size_words(build_bytes)} (quantize.memory_limit_mb), more than there is",
            "A build that grows is ended by the system instead of by mecha, and may take a node with it.",
            f"Set memory_limit_mb = {max(int(most * _BUILD_SHARE / 1e6), 256)} under [quantize] in "
            "configs/common/mecha.toml.",
        )


def _files(found: Limits) -> Finding:
    if found.files is None or found.files >= _ENOUGH_FILES:
        return ok("open files", "no limit" if found.files is None else f"{found.files} at a time")
    what = f"{found.files} at a time (ulimit -n)"
    remedy = "Raise it: `ulimit -n 4096`, or LimitNOFILE=4096 in a unit."
    if found.files < _LEAST_FILES:
        return wrong("open files", what, "The bus and the watch over configs need more than that.", remedy)
    return note("open files", what, "Enough for a few nodes, and not for many clients.", remedy)


def _pool(found: Limits) -> Finding:
    if found.pool_bytes:
        return ok("shared memory", f"{size_words(found.pool_bytes)} for the frames of a node")
    return note(
        "shared memory",
        "none for frames: /dev/shm is too small, or RLIMIT_MEMLOCK too low",
        "Frames go through a socket instead, which costs six times as much.",
        "Give a container --shm-size 256m; raise `ulimit -l` to 65536, or LimitMEMLOCK=64M in a unit.",
    )


def _resource(name: str) -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft == resource.RLIM_INFINITY else soft
