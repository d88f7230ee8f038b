"""Class names: from the entry, else from the ONNX metadata, else class_0 and so on."""

from collections.abc import Callable
from pathlib import Path

from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import ConfigError, NotFoundError
from mecha.words import printable

_MAX_LABEL_FILE_BYTES = 1_000_000


def class_names(
    entry: ModelCatalogEntry, *, metadata: tuple[str, ...] | None, count: int | None, fetch: Callable[[str], Path]
) -> tuple[str, ...]:
    """Return one name a class.

    Args:
        metadata: names in the ONNX file, when it has any.
        count: classes the model's outputs have, when they tell.
        fetch: brings the entry's label file.

    Raises:
        ConfigError: the entry gives another number of names than the model has classes, or its label file is unusable.
        NotFoundError: there is no such label file.
    """
    names, where = _named(entry, fetch)
    if names is None:
        # What a file says of itself is shown on terminals, and is a line of labels.txt.
        metadata = None if metadata is None else tuple(map(printable, metadata))
        names = metadata if metadata is not None else tuple(f"class_{index}" for index in range(count or 0))
    elif count is not None and len(names) != count:
        raise ConfigError(
            f"{entry.name}: {where} has {len(names)} names, the model has {count} classes",
            hint="give one name a class, in the order of the model's outputs",
        )
    return names


def _named(entry: ModelCatalogEntry, fetch: Callable[[str], Path]) -> tuple[tuple[str, ...] | None, str]:
    if entry.label_file is not None:
        where = f"label file {entry.label_file}"
        return names_in(fetch(entry.label_file), f"{entry.name}: {where}"), where
    return entry.label_names, 'labels = "coco"' if entry.labels == "coco" else "labels"


def names_in(path: Path, where: str) -> tuple[str, ...]:
    """Return the names of a text file, one a line; `where` names it in messages.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it is no text, too large for one, or empty.
    """
    if not path.is_file():
        raise NotFoundError(f"{where}: {path} is no file; expected a text file of one class name a line")
    size = path.stat().st_size
    if size > _MAX_LABEL_FILE_BYTES:
        raise ConfigError(f"{where}: {size} bytes; expected a text file of one class name a line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 text at byte {error.start}; expected one class name a line") from error
    names = tuple(filter(None, map(printable, lines)))
    if not names:
        raise ConfigError(f"{where}: holds no name; expected one class name a line")
    return names
