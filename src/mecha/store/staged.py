"""Files of a folder that is not in place yet: who puts it in place brings them to the disk."""

from pathlib import Path

from mecha.store.faults import disk_error


def write_staged(path: Path, data: bytes) -> None:
    """Write a file that nobody reads yet.

    Raises:
        DiskError: no space, or no permission.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise disk_error(error, path, "write", needed_bytes=len(data)) from error
