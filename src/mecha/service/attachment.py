"""Watching a download that another process does, by what it leaves on the disk."""

import json
from dataclasses import dataclass
from pathlib import Path

from mecha.store.locks import holder


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a download is; the whole is None where that is not known."""

    size_bytes: int
    total_bytes: int | None


def reached(partial: Path, total_bytes: int | None = None) -> Reached | None:
    """Return how far a partial file is, None where there is none.

    Args:
        total_bytes: its whole size; read from its sidecar where not given.
    """
    try:
        size = partial.stat().st_size
        if total_bytes is None:
            total_bytes = json.loads(partial.with_name(f"{partial.name}.json").read_bytes())["size_bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Reached(size, total_bytes)


def download_of(lock: Path, cache_root: Path) -> Reached | None:
    """Return how far the download is that the holder of a lock does, None where it does none."""
    by = holder(lock)
    if by is None:
        return None
    for note in (cache_root / "partial").glob("*.lock.holder"):
        other = note.with_name(note.name.removesuffix(".holder"))
        if holder(other) == by:
            return reached(other.with_suffix(""))
    return None
