"""Taking an ONNX file of this device into the cache, so that it stays when the file is moved, changed or removed."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from mecha.errors import NotFoundError
from mecha.progress import Progress, silent
from mecha.service.turn import turn
from mecha.store.blobs import BlobCache
from mecha.store.faults import disk_error, require_space

_ONE_WRITER_TIMEOUT_S = 24 * 3600.0
_CHUNK_BYTES = 1 << 20
_START_BYTES = 512


def take(
    cache: BlobCache,
    file: Path,
    *,
    extra_share: float,
    check_start: Callable[[bytes], None],
    check_whole: Callable[[Path, str], None],
    progress: Progress = silent,
) -> tuple[Path, str]:
    """Copy a file into the cache and return where it is there, and its sha256.

    Args:
        extra_share: space that later stages need besides the file, as a share of its size.
        check_start: raises when the first bytes are not what is needed.
        check_whole: raises when the copy, of which it is told the sha256, is not what is needed.
        progress: told when another process takes the same file.

    Raises:
        NotFoundError: there is no such file.
        DiskError: it cannot be read, or the cache cannot be written.
        MechaError: as the checks; the cache is as it was.
    """
    if not file.is_file():
        what = "a folder" if file.is_dir() else "no such file"
        raise NotFoundError(f"{file}: {what}; expected an ONNX model", hint="Put the file there, or name another one.")
    partial = cache.partial(sha256(str(file.absolute()).encode()).hexdigest())
    with turn(partial.with_suffix(".lock"), f"copy of {file.name}", progress, timeout_s=_ONE_WRITER_TIMEOUT_S):
        try:
            size_bytes = file.stat().st_size
            require_space(partial.parent, size_bytes, what=str(file), int8_bytes=int(size_bytes * extra_share))
            check_start(_start_of(file))
            digest = copied(file, partial)
            check_whole(partial, digest)
            return cache.find(digest) or cache.adopt(partial, digest), digest
        finally:
            partial.unlink(missing_ok=True)


def copied(file: Path, target: Path) -> str:
    """Copy a file and return the sha256 of what was copied: the file may be written to meanwhile.

    Raises:
        DiskError: it cannot be read, or the copy not be written.
    """
    state = sha256()
    place, doing = file, "read"
    try:
        with file.open("rb") as source:
            place, doing = target, "write"
            target.unlink(missing_ok=True)
            target.touch(mode=0o600)
            with target.open("wb") as copy:
                while chunk := source.read(_CHUNK_BYTES):
                    state.update(chunk)
                    copy.write(chunk)
    except OSError as error:
        raise disk_error(error, place, doing) from error
    return state.hexdigest()


def _start_of(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return source.read(_START_BYTES)
    except OSError as error:
        raise disk_error(error, file, "read") from error
