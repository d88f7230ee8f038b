"""What of the cache goes: what nothing uses, and what was used least recently.

The order: copies that are made again in seconds, INT8 that is built again in minutes, downloads that need a network,
INT8 that cannot be built again because the frames are gone or somebody else made it.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mecha.errors import BusyError
from mecha.store.atomic import discard, remove, unfinished_path
from mecha.store.cached import Cached
from mecha.store.faults import disk_error
from mecha.store.leases import Leases
from mecha.store.locks import exclusive, holder_words
from mecha.store.usage import UseRecord

_RANKS = {"prepared": 0, "calibration": 0, "build": 1, "download": 2, "partial": 2}
_LAST = 3


def eviction_order(items: Sequence[Cached], precious: Collection[str] = ()) -> tuple[Cached, ...]:
    """Return items in the order in which they go.

    Args:
        precious: what cannot be made again, by `Cached.item`.
    """

    def rank(cached: Cached) -> tuple[int, float, str]:
        return (_LAST if cached.item in precious else _RANKS[cached.kind], cached.last_used, cached.key)

    return tuple(sorted(items, key=rank))


def over_quota(
    items: Sequence[Cached],
    uses: Mapping[str, str],
    quota_bytes: int,
    *,
    besides_bytes: int = 0,
    precious: Collection[str] = (),
) -> tuple[Cached, ...]:
    """Return what has to go so that a cache keeps to its quota, as far as that is possible without what is used.

    Args:
        uses: why an item stays, by `Cached.item`; a linked one stays too, because removing it frees nothing.
        besides_bytes: what else lies in the cache: partial downloads.
        precious: as in `eviction_order`.
    """
    total = besides_bytes + sum(cached.size_bytes for cached in items)
    gone: list[Cached] = []
    for cached in eviction_order(items, precious):
        if total <= quota_bytes:
            break
        if cached.item not in uses and not cached.linked:
            gone.append(cached)
            total -= cached.size_bytes
    return tuple(gone)


def evict(root: Path, cached: Cached) -> str:
    """Remove one thing from a cache, unless somebody needs it.

    Returns:
        Who needs it; "" when it is gone.

    Raises:
        DiskError: it cannot be removed.
    """
    if cached.kind != "build":
        return _evict(root, cached)
    lock = cached.path.with_suffix(".lock")
    try:
        with exclusive(lock, timeout_s=0, doing=f"removal of {cached.key[:12]} from the cache"):
            needed_by = _evict(root, cached)
            if not needed_by:
                remove(lock)  # who waits for it makes another one
            return needed_by
    except BusyError:
        return holder_words(lock)


def _evict(root: Path, cached: Cached) -> str:
    leases = Leases(root)
    with leases.guarded():
        holder = leases.holder(cached.item)
        if holder is not None:
            return f"process {holder.pid}"
        removed = unfinished_path(cached.path, "removed")
        try:
            cached.path.rename(removed)
        except FileNotFoundError:
            return ""  # somebody else was quicker
        except OSError as error:
            raise disk_error(error, cached.path, "remove") from error
    discard(removed)
    UseRecord(root).forget(cached.item)
    return ""
