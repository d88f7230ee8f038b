"""Giving back disk space: what goes, what stays and why, for `mecha models gc` and for the quota of the cache.

Whatever runs beside it keeps what it needs: what a writer has locked and what a pull has asked for is left, and said.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from mecha.errors import MechaError, NoSpaceError
from mecha.project import Project
from mecha.service.candidate import ADOPTED
from mecha.service.publication import RECORD_FILE
from mecha.service.uses import unreadable_pins, uses_of
from mecha.store.blobs import BlobCache
from mecha.store.cached import FOLDERS, Cached, contents
from mecha.store.eviction import evict, eviction_order, over_quota
from mecha.store.format import require_known
from mecha.store.known_projects import known_projects, note_project
from mecha.store.leases import Leases
from mecha.store.leftovers import PARTIAL_KEPT_S, Leftover, orphan_locks, partials, sweep_leftover, unfinished
from mecha.store.locks import holder, holder_words
from mecha.store.usage import UseRecord
from mecha.words import size_words

_log = logging.getLogger(__name__)

_UNUSED = "nothing on this device uses it"
_REMADE = {"prepared": "made again when a detector starts", "calibration": "made again by the next INT8 build"}
_HOUR_S = 3600.0
_SHORT = 12
_DIGEST = re.compile(r"[0-9a-f]{40,}")


@dataclass(frozen=True, slots=True)
class Collected:
    """One thing that was looked at.

    Attributes:
        kind: "download", "build" (of INT8), "prepared", "calibration", "partial", "staging" or "lock".
        name: what people call it, else what its file is called.
        frees_bytes: what removing it gives back; 0 for what is linked into a project.
        last_used: ISO 8601 time, UTC, up to a day too early.
        goes: it was removed, or would be.
        reason: why it goes or stays.
    """

    kind: str
    name: str
    path: str
    size_bytes: int
    frees_bytes: int
    last_used: str
    goes: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection came to.

    Attributes:
        freed_bytes: given back, or what would be.
        cache_bytes: what the cache takes now; quota_bytes: what it may take, None for what it needs.
    """

    dry_run: bool
    items: tuple[Collected, ...]
    freed_bytes: int
    cache: str
    cache_bytes: int
    quota_bytes: int | None


class Collector:
    """Collects in the user cache, and in the models folder of one project.

    Args:
        project: where the leftovers of models are looked for; it counts as one that uses the cache.
    """

    def __init__(self, project: Project, cache: BlobCache) -> None:
        self._project, self._cache = project, cache
        self._leases = Leases(cache.root)

    def collect(self, *, dry_run: bool = False) -> Collection:
        """Remove what nothing uses and what was left behind; what somebody needs at this moment stays.

        Raises:
            DiskError: something cannot be removed.
            ConfigError: the cache is of a newer mecha.
        """
        require_known(self._cache.root)
        found = (*self._leftovers(dry_run=dry_run), *self._cached(dry_run=dry_run))
        items = tuple(sorted(found, key=lambda item: not item.goes))
        if not dry_run:
            self._forget()
        return Collection(
            dry_run=dry_run,
            items=items,
            freed_bytes=sum(item.frees_bytes for item in items if item.goes),
            cache=str(self._cache.root),
            cache_bytes=self._cache_bytes(),
            quota_bytes=self._cache.quota_bytes,
        )

    def trim(self) -> int:
        """Bring the cache down to its quota, as far as that is possible; return the bytes given back.

        A fault is logged and takes nothing from what was done before.
        """
        quota = self._cache.quota_bytes
        freed = 0
        if quota is None:
            return freed
        try:
            require_known(self._cache.root)
            if self._cache_bytes() <= quota:
                return freed
            for leftover in partials(self._cache.root):
                if leftover.age_s >= PARTIAL_KEPT_S and not sweep_leftover(leftover):
                    freed += leftover.size_bytes
            items = contents(self._cache.root)
            besides = sum(leftover.size_bytes for leftover in partials(self._cache.root))
            stay = {cached.item: why for cached in items if (why := self._why(cached) or self._needed(cached))}
            precious = {cached.item for cached in items if _cannot_be_made_again(cached)}
            for cached in over_quota(items, stay, quota, besides_bytes=besides, precious=precious):
                if not evict(self._cache.root, cached):
                    freed += cached.freed_bytes
        except MechaError as error:
            _log.warning("the cache is over its quota: %s", error)
        return freed

    def _leftovers(self, *, dry_run: bool) -> Iterator[Collected]:
        root, models = self._cache.root, self._project.models_dir
        for partial in partials(root):
            hours = partial.age_s / _HOUR_S
            needed = holder_words(partial.lock) if partial.lock and holder(partial.lock) else ""
            if needed:
                yield _told(partial, goes=False, reason=f"{needed} works on it")
            elif partial.age_s < PARTIAL_KEPT_S:
                yield _told(partial, goes=False, reason=f"{_ago(hours)}: kept for 72 h, the next pull goes on with it")
            else:
                yield self._swept(partial, f"{_ago(hours)}: nobody went on with it for 72 h", dry_run=dry_run)
        for folder in (*(root / name for name in FOLDERS.values()), root / "used", root, models, self._project.root):
            for left in unfinished(folder):
                yield self._swept(left, "its process is gone", dry_run=dry_run)
        for folder in (root / FOLDERS["partial"], root / FOLDERS["build"], models):
            for lock in orphan_locks(folder):
                if lock.path.with_suffix("") not in {partial.path for partial in partials(root)}:
                    yield self._swept(lock, "nothing is there that it could lock", dry_run=dry_run)

    def _swept(self, leftover: Leftover, reason: str, *, dry_run: bool) -> Collected:
        needed = leftover.needed_by
        if not needed and dry_run and leftover.lock is not None and holder(leftover.lock) is not None:
            needed = holder_words(leftover.lock)
        if not needed and not dry_run:
            needed = sweep_leftover(leftover)
        return _told(leftover, goes=not needed, reason=f"{needed} works on it" if needed else reason)

    def _cached(self, *, dry_run: bool) -> Iterator[Collected]:
        items = contents(self._cache.root)
        precious = {cached.item for cached in items if _cannot_be_made_again(cached)}
        for cached in eviction_order(items, precious):
            why = self._why(cached)
            if not why and cached.kind in _REMADE:
                remade = _REMADE[cached.kind]
                age_s = datetime.now(UTC).timestamp() - cached.last_used
                why = f"{_ago(age_s / _HOUR_S)}: kept for 72 h, {remade}" if age_s < PARTIAL_KEPT_S else ""
                going = f"{remade}; not new for 72 h"
            else:
                going = _UNUSED
            if not why:
                by = self._needed(cached) if dry_run else evict(self._cache.root, cached)
                why = f"{by} needs it now" if by else ""
            yield Collected(
                kind=cached.kind,
                name=cached.name or cached.key[:_SHORT],
                path=str(cached.path),
                size_bytes=cached.size_bytes,
                frees_bytes=0 if cached.linked and cached.kind == "download" else cached.freed_bytes,
                last_used=_iso(cached.last_used),
                goes=not why,
                reason=why or going,
            )

    def _why(self, cached: Cached) -> str:
        """Return why something of the cache stays, "" where nothing uses it."""
        used = self._uses.get(cached.item, "")
        if not used and cached.linked:
            used = "linked into a project: removing it frees nothing"
        if not used and cached.kind == "download" and self._unreadable:
            used = f"{self._unreadable[0]} cannot be read, and may pin it"
        return used

    def _needed(self, cached: Cached) -> str:
        process = self._leases.holder(cached.item)
        return f"process {process.pid}" if process is not None else ""

    @cached_property
    def _projects(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self._project.root, *known_projects(self._cache.root))))

    @cached_property
    def _uses(self) -> Mapping[str, str]:
        return uses_of(self._projects)

    @cached_property
    def _unreadable(self) -> tuple[Path, ...]:
        return unreadable_pins(self._projects)

    def _cache_bytes(self) -> int:
        kept = sum(cached.size_bytes for cached in contents(self._cache.root))
        return kept + sum(partial.size_bytes for partial in partials(self._cache.root))

    def _forget(self) -> None:
        """Drop notes about what is not there any more."""
        there = {cached.item for cached in contents(self._cache.root)}
        uses = UseRecord(self._cache.root)
        for item in uses.items():
            if item not in there and not item.startswith("."):
                uses.forget(item)


@contextmanager
def at_work(project: Project, cache: BlobCache) -> Iterator[None]:
    """Bring something with the help of the cache.

    What is needed meanwhile is not evicted by anybody. Afterwards a cache that has a quota makes room for what was put
    in. A refusal for lack of space says what a collection would give back.
    """
    note_project(cache.root, project.root)
    with cache.keeping():
        try:
            yield
        except NoSpaceError as error:
            raise told_what_frees(error, project, cache) from error
        Collector(project, cache).trim()


def told_what_frees(error: NoSpaceError, project: Project, cache: BlobCache) -> NoSpaceError:
    """Return a refusal for lack of space that says what a collection would give back."""
    try:
        freed = Collector(project, cache).collect(dry_run=True).freed_bytes
    except (MechaError, OSError):
        return error
    words = size_words(freed) if freed else "nothing"
    return NoSpaceError(str(error), hint=f"{error.hint} `mecha models gc` would free {words}.")


def _told(leftover: Leftover, *, goes: bool, reason: str) -> Collected:
    return Collected(
        kind=leftover.kind,
        name=_name(leftover),
        path=str(leftover.path),
        size_bytes=leftover.size_bytes,
        frees_bytes=leftover.size_bytes,
        last_used=_iso(leftover.last_used),
        goes=goes,
        reason=reason,
    )


def _name(leftover: Leftover) -> str:
    """Return what people call it: of a download its file, of what is named by a digest the first twelve digits."""
    if leftover.kind == "partial":
        try:
            said = json.loads(leftover.path.with_name(f"{leftover.path.name}.json").read_bytes())
            return f"{said['repo']}/{said['filename']}"
        except (OSError, ValueError, KeyError, TypeError):
            pass
    return _DIGEST.sub(lambda found: found[0][:_SHORT], leftover.path.name)


def _cannot_be_made_again(cached: Cached) -> bool:
    """Tell whether a build was made from frames that are gone, or by somebody else."""
    if cached.kind != "build":
        return False
    try:
        record = json.loads((cached.path / RECORD_FILE).read_bytes())
        seen = (record.get("calibration") or {}).get("seen_digest")
        return bool(seen) or record.get("method") == ADOPTED
    except (OSError, ValueError, AttributeError):
        return False


def _ago(hours: float) -> str:
    if hours < 0:
        return "from a time to come"  # the clock was set back
    return f"{hours:.0f} h old"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
