"""What processes left behind: downloads that nobody went on with, unfinished folders, locks of nothing."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mecha.errors import BusyError
from mecha.store.atomic import UNFINISHED, remove
from mecha.store.cached import FOLDERS, tree_bytes
from mecha.store.locks import exclusive, holder_words
from mecha.store.process import ProcessId

PARTIAL_KEPT_S = 72 * 3600.0
"""How long a download that nobody goes on with is kept: a weekend without a network."""

_LOCK = re.compile(r"(?P<lock>\.?(?P<of>.+?)\.lock)(?:\.holder(?:\.\d+-\d+)?)?")
_DOING = "removal of what was left behind"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that was left behind, or still may be needed.

    Attributes:
        path: what it is called; files: all that goes with it.
        lock: what its writer holds, None where the process in its name says whether it is needed.
        needed_by: who needs it, "" for nobody.
        last_used: seconds since the epoch.
    """

    kind: Literal["partial", "staging", "lock"]
    path: Path
    files: tuple[Path, ...]
    size_bytes: int
    last_used: float
    lock: Path | None = None
    needed_by: str = ""

    @property
    def age_s(self) -> float:
        """Seconds since it was written to last."""
        return time.time() - self.last_used


def partials(root: Path) -> tuple[Leftover, ...]:
    """Return the downloads on their way in a cache: each with its sidecar and whatever else is named after it."""
    groups: dict[str, list[Path]] = {}
    for file in _entries(root / FOLDERS["partial"]):
        key = file.name.lstrip(".").partition(".")[0]
        if _LOCK.fullmatch(file.name) is None:
            groups.setdefault(key, []).append(file)
    found = []
    for key, files in sorted(groups.items()):
        path = root / FOLDERS["partial"] / key
        lock = path.with_suffix(".lock")
        found.append(_leftover("partial", path, tuple(files), lock))
    return tuple(found)


def unfinished(folder: Path) -> tuple[Leftover, ...]:
    """Return what was staged or being removed in a folder; the process in its name needs it as long as it runs."""
    found = []
    for path in _entries(folder):
        match = UNFINISHED.fullmatch(path.name)
        if match is not None:
            alive = ProcessId(int(match["pid"]), int(match["started"])).alive()
            found.append(_leftover("staging", path, (path,), None, f"process {match['pid']}" if alive else ""))
    return tuple(found)


def orphan_locks(folder: Path) -> tuple[Leftover, ...]:
    """Return the locks of a folder whose thing is not there: a model that was removed, a download that was finished."""
    found: dict[Path, list[Path]] = {}
    for file in _entries(folder):
        match = _LOCK.fullmatch(file.name)
        if match is None or not file.is_file():
            continue
        things = (folder / match["of"], folder / f".{match['of']}.previous")
        if not any(thing.exists() for thing in things):
            found.setdefault(folder / match["lock"], []).append(file)
    return tuple(_leftover("lock", lock, tuple(files), lock) for lock, files in sorted(found.items()))


def sweep_leftover(leftover: Leftover) -> str:
    """Remove what was left behind, unless somebody needs it.

    Returns:
        Who needs it; "" when it is gone.

    Raises:
        DiskError: it cannot be removed.
    """
    if leftover.needed_by:
        return leftover.needed_by
    if leftover.lock is None:
        for file in leftover.files:
            remove(file)
        return ""
    try:
        with _held(leftover.lock):
            for file in leftover.files:
                if leftover.kind == "partial" and time.time() - _written(file) < PARTIAL_KEPT_S:
                    return "another process"  # it went on with it a moment ago
            for file in leftover.files:
                remove(file)
            # Whoever waits for the lock finds that its file has no name any more, and makes another one.
            remove(leftover.lock)
    except BusyError:
        return holder_words(leftover.lock)
    return ""


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    with exclusive(lock, timeout_s=0, doing=_DOING):
        yield


def _leftover(
    kind: Literal["partial", "staging", "lock"],
    path: Path,
    files: tuple[Path, ...],
    lock: Path | None,
    needed_by: str = "",
) -> Leftover:
    return Leftover(
        kind=kind,
        path=path,
        files=files,
        size_bytes=sum(tree_bytes(file) for file in files),
        last_used=max((_written(file) for file in files), default=0.0),
        lock=lock,
        needed_by=needed_by,
    )


def _written(file: Path) -> float:
    with suppress(OSError):
        return file.stat(follow_symlinks=False).st_mtime
    return 0.0


def _entries(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError:
        return ()
