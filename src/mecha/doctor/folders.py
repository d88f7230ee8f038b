"""Whether the disks have room, and whether the user who runs mecha may write where it writes."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mecha.daemon.identity import Identity
from mecha.daemon.unit_text import UnitPlan, hidden_from
from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.project import Project, cache_dir
from mecha.store.faults import RESERVE_BYTES, disk_of, existing_folder, free_bytes, on_one_disk
from mecha.words import size_words

_ROOM_BYTES = 500_000_000
"""A small detector in both precisions, its build and its report, and what a build leaves for a moment."""
_LEAST_FILES = 1000


def folder_findings(
    project: Project, environ: Mapping[str, str], user: Identity, plan: UnitPlan | None = None
) -> Iterator[Finding]:
    """Give whether a user may write where mecha writes.

    Args:
        user: who runs mecha; another one than of this process does so as a service.
        plan: what such a service runs; by default the Python and the mecha of this process.
    """
    root = project.root
    hidden = None if user.own else hidden_from(plan or UnitPlan(root), user)
    if hidden is not None:
        path, stopped = hidden
        what, move = ("the project", "the project") if path == root else (str(path), "what runs mecha")
        yield wrong(
            "folder",
            f"{stopped} does not let {user.name} through to {what}",
            "The service does not start.",
            f"chmod o+rx {stopped}, or move {move}, for example to /opt.",
        )
        return
    places = {
        "the project (mecha.lock)": root,
        "models": project.models_dir,
        "configs": project.configs_dir,
    }
    if user.own:
        places |= {"the cache": cache_dir(environ), "temporary files": Path(tempfile.gettempdir())}
    refused = [(what, folder) for what, folder in places.items() if not _may_write(folder, user)]
    for what, folder in refused:
        yield wrong(
            "folder",
            f"{user.name} cannot write in {existing_folder(folder)}: {what}",
            "Models, settings or downloads cannot be kept.",
            _grant(existing_folder(folder), user),
        )
    if not refused:
        yield ok("folder", f"{user.name} may write in {', '.join(places)}")


def disk_findings(project: Project, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Give how much room the disks of the project and of the cache have."""
    cache = cache_dir(environ)
    for disk, holds in _disks({"the project": project.root, "the cache": cache}.items()):
        yield _room(disk, holds)
    if not on_one_disk(project.models_dir, cache):
        yield note(
            "disk",
            f"{project.models_dir} and the cache {cache} are on two disks, or two mounts of one",
            "A model is copied instead of linked: it takes its space twice.",
            f"Set MECHA_CACHE_DIR to a folder on {disk_of(project.models_dir)}, or leave it so where there is room.",
        )


def _room(disk: Path, holds: str) -> Finding:
    free = free_bytes(disk)
    what = f"{size_words(free)} free on {disk} ({holds})"
    remedy = "`mecha models gc --dry-run` tells what nothing uses; [cache] quota_gb in mecha.toml bounds it."
    if free < RESERVE_BYTES:
        return wrong("disk", what, f"mecha leaves {size_words(RESERVE_BYTES)} free: nothing is pulled.", remedy)
    if (files := _free_files(disk)) is not None and files < _LEAST_FILES:
        return wrong("disk", f"{files} more files fit on {disk} ({holds})", "It is full of small files.", remedy)
    if free < _ROOM_BYTES:
        return note("disk", what, f"A small detector with its INT8 build needs {size_words(_ROOM_BYTES)}.", remedy)
    return ok("disk", what)


def _disks(places: Iterable[tuple[str, Path]]) -> Iterator[tuple[Path, str]]:
    found: dict[Path, list[str]] = {}
    for what, folder in places:
        found.setdefault(disk_of(folder), []).append(what)
    for disk, holds in found.items():
        yield disk, ", ".join(holds)


def _free_files(disk: Path) -> int | None:
    """Return how many more files fit, None where the system does not tell or there is no limit."""
    if not hasattr(os, "statvfs"):
        return None
    status = os.statvfs(disk)
    return status.f_favail if status.f_files else None


def _may_write(folder: Path, user: Identity) -> bool:
    """Tell whether a folder can be written, or made where it is not there."""
    return user.may_write_in(folder if folder.is_dir() else existing_folder(folder))


def _grant(folder: Path, user: Identity) -> str:
    if os.access(folder, os.F_OK) and _is_read_only(folder):
        return f"Mount {disk_of(folder)} writable, or keep the project and MECHA_CACHE_DIR on another disk."
    if user.own:
        return f"sudo chown -R {user.name} {folder}, or work in another folder."
    return f"sudo chgrp -R {user.name} {folder} && sudo chmod -R g+rwX {folder}; `mecha daemon install` does it."


def _is_read_only(folder: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
