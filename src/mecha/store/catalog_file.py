"""Write a changed catalog: whole, with the permissions it had."""

from pathlib import Path

from mecha.catalog.edit import with_entry, without_entry
from mecha.catalog.schema import ModelCatalogEntry
from mecha.store.atomic import discard, make_dir, write_file
from mecha.validation import read_text


def add_entry(file: Path, entry: ModelCatalogEntry) -> None:
    """Add an entry at the end of a catalog file, which is made when absent; all comments stay.

    Raises:
        ConfigError: the file has faults, or an entry of this name.
        DiskError: it cannot be written; it is as it was.
    """
    text = read_text(file, where=str(file)) if file.exists() else ""
    _write(file, with_entry(text, entry, where=str(file)))


def remove_entry(file: Path, name: str) -> None:
    """Take an entry out of a catalog file; all comments but those right above it stay.

    Raises:
        ConfigError: the file has faults.
        DiskError: it cannot be written; it is as it was.
        NotFoundError: there is no such file, or no entry of this name in it.
    """
    _write(file, without_entry(read_text(file, where=str(file)), name, where=str(file)))


def put_back(file: Path, before: str | None) -> None:
    """Write a catalog file as it was, byte for byte; None where there was none.

    Raises:
        DiskError: it cannot be written.
    """
    if before is None:
        discard(file)
    else:
        _write(file, before)


def _write(file: Path, text: str) -> None:
    # A catalog that is a link to a shared one stays a link.
    target = file.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    make_dir(target.parent)
    write_file(target, text.encode(), mode)
