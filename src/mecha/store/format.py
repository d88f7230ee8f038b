"""Which version of mecha has written something, so that an older one leaves alone what it does not understand.

    <root>/.format            of the user cache: one number
    "schema"                  of a published model: a key of its manifest

Format 1 is what mecha writes. A cache without a number is of the time before; it differs in nothing else, is read as it
is, and gets its number with the next thing that is written. A model is migrated by its next pull.
"""

from contextlib import suppress
from pathlib import Path

from mecha.errors import ConfigError
from mecha.store.atomic import write_file

FORMAT = 1
_FILE = ".format"


class NewerFormatError(ConfigError):
    """A newer version of mecha has written it."""


def require_known(folder: Path) -> None:
    """Refuse a cache that a newer mecha has written.

    Raises:
        NewerFormatError: its number is larger than FORMAT.
    """
    found = _found(folder)
    if found is not None and found > FORMAT:
        raise NewerFormatError(
            f"{folder}: the cache is of a newer mecha: got format {found}; expected {FORMAT} at most",
            hint="Upgrade mecha, or set MECHA_CACHE_DIR to another folder. "
            f"If no newer one was ever here, remove {folder / _FILE}.",
        )


def require_known_schema(document: object, where: str) -> None:
    """Refuse a document of a newer mecha, before its keys are looked at.

    Args:
        document: what a JSON parser returned.
        where: names the file.

    Raises:
        NewerFormatError: its "schema" is larger than FORMAT.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > FORMAT:
        raise NewerFormatError(
            f"{where}: of a newer mecha: got schema {schema}; expected {FORMAT} at most",
            hint="Upgrade mecha on this device.",
        )


def note_format(folder: Path) -> None:
    """Note in a cache that exists which version writes it.

    Raises:
        DiskError: it cannot be written.
    """
    if _found(folder) != FORMAT:
        write_file(folder / _FILE, f"{FORMAT}\n".encode())


def _found(folder: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int((folder / _FILE).read_text(encoding="ascii"))
    return None
