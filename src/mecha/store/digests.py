"""What a file is, by content."""

import hashlib
from pathlib import Path

from mecha.store.faults import disk_error
from mecha.store.manifest import FileRecord


def sha256_of(path: Path) -> str:
    """Return the lower-case hex sha256 of a file.

    Raises:
        DiskError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, path, "read") from error


def file_record(path: Path) -> FileRecord:
    """Return digest and size of a file. Raises DiskError as `sha256_of`."""
    return FileRecord(sha256=sha256_of(path), size_bytes=path.stat().st_size)


def folder_records(folder: Path, *, without: str = "") -> dict[str, FileRecord]:
    """Return the records of all files in a folder, by POSIX path relative to it, sorted; one may be left out."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: file_record(files[name]) for name in sorted(files) if name != without}
