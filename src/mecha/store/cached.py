"""What lies in the cache, item by item."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mecha.store.usage import UseRecord

Kind = Literal["download", "build", "prepared", "calibration", "partial"]

# Folder of each kind in the cache. Copies that start a detector sooner and results of calibration are made again in
# seconds, and their owners keep 16 of each at most.
FOLDERS: dict[Kind, str] = {
    "download": "blobs",
    "build": "builds",
    "prepared": "prepared",
    "calibration": "calibration",
    "partial": "partial",
}


@dataclass(frozen=True, slots=True)
class Cached:
    """One thing that the cache keeps.

    Attributes:
        key: digest of a download, key of a build, name of another one's file.
        size_bytes: of all its files.
        freed_bytes: what removing it gives back: files that are linked into a project stay there.
        linked: its model file has another name too, in a project.
        last_used: seconds since the epoch.
        name: what people call it, "" if nobody said.
    """

    kind: Kind
    key: str
    path: Path
    size_bytes: int
    freed_bytes: int
    linked: bool
    last_used: float
    name: str = ""

    @property
    def item(self) -> str:
        """What it is called in `used/` and `leases/`."""
        return item_of(self.kind, self.key)


def item_of(kind: Kind, key: str) -> str:
    """Return what a thing of the cache is called in `used/` and `leases/`."""
    return f"{kind}-{key}"


def contents(root: Path) -> tuple[Cached, ...]:
    """Return what lies in a cache, partial downloads left out; what vanishes meanwhile is left out too."""
    uses = UseRecord(root)
    found: list[Cached] = []
    for kind, folder in FOLDERS.items():
        if kind == "partial":
            continue
        for path in _entries(root / folder):
            if path.name.startswith(".") or ".lock" in path.suffixes:
                continue
            cached = _look(kind, path, uses)
            if cached is not None:
                found.append(cached)
    return tuple(found)


def tree_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    return sum(size for size, _ in _sizes(path))


def _look(kind: Kind, path: Path, uses: UseRecord) -> Cached | None:
    sizes = tuple(_sizes(path))
    try:
        written = path.stat().st_mtime
    except OSError:
        return None
    noted = uses.last(item_of(kind, path.name))
    return Cached(
        kind=kind,
        key=path.name,
        path=path,
        size_bytes=sum(size for size, _ in sizes),
        freed_bytes=sum(size for size, links in sizes if links == 1),
        linked=any(links > 1 for _, links in sizes),
        last_used=written if noted is None else noted,
        name=uses.name(item_of(kind, path.name)),
    )


def _sizes(path: Path) -> Iterator[tuple[int, int]]:
    """Give size and number of names of each file."""
    # Path.rglob raises where another process removes a folder meanwhile; os.walk goes on.
    inside = [Path(root, name) for root, _, names in os.walk(path) for name in names]
    for file in inside if path.is_dir() else (path,):
        try:
            stat = file.stat(follow_symlinks=False)
        except OSError:
            continue
        yield stat.st_size, stat.st_nlink


def _entries(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError:
        return ()
