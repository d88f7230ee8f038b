"""Change the text of a catalog without touching what a person wrote: every other byte stays, comments too.

Taking a table out through a parsed document takes the comments above the next table with it: they belong to the table
before them there. So the lines of an entry are cut out of the text.
"""

from mecha.catalog.catalog import parse_catalog
from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import ConfigError, NotFoundError
from mecha.positions import LineOf
from mecha.validation import toml_line_of
from mecha.words import did_you_mean


def with_entry(text: str, entry: ModelCatalogEntry, *, where: str) -> str:
    """Return a catalog text with one more entry at its end.

    Raises:
        ConfigError: the text has faults, or an entry of this name.
    """
    before = parse_catalog(text, where=where)
    for index, known in enumerate(before):
        if known.name == entry.name:
            line = toml_line_of(text)(("models", index, "name"))
            raise ConfigError(
                f'{where}:{line}: "{entry.name}" is already in this catalog',
                hint="Remove it first, or take another name.",
            )
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else newline if text.endswith("\n") else newline * 2
    changed = text + gap + _written(entry).replace("\n", newline)
    return _proven(changed, (*before, entry), text, where)


def without_entry(text: str, name: str, *, where: str) -> str:
    """Return a catalog text without an entry and the comment lines right above it.

    Raises:
        ConfigError: the text has faults.
        NotFoundError: it has no entry of this name.
    """
    before = parse_catalog(text, where=where)
    names = [entry.name for entry in before]
    if name not in names:
        raise NotFoundError(f'{where}: no model "{name}" in this catalog{did_you_mean(name, names)}')
    index = names.index(name)
    lines = text.splitlines(keepends=True)
    start, end = _span(lines, index, toml_line_of(text))
    changed = "".join(lines[:start] + lines[end:])
    return _proven(changed, (*before[:index], *before[index + 1 :]), text, where)


def _written(entry: ModelCatalogEntry) -> str:
    """Return an entry as a `[[models]]` table: what differs from the defaults, and whether INT8 is made, and how."""
    import tomlkit

    table = entry.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    if "quantize" in table:
        stated = {"enabled": entry.quantize.enabled, "method": entry.quantize.method}
        table["quantize"] = stated | table["quantize"]
    return tomlkit.dumps({"models": [table]})


def _span(lines: list[str], index: int, line_of: LineOf) -> tuple[int, int]:
    """Return the first line of an entry and the one behind its last, from 0."""
    header = (line_of(("models", index)) or 1) - 1
    following = line_of(("models", index + 1))
    end = len(lines) if following is None else following - 1
    while end > header + 1 and lines[end - 1].lstrip()[:1] in ("", "#"):
        end -= 1
    start = header
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    # Comments that reach up to the first line of the file are about the file.
    start = header if start == 0 else start
    while end < len(lines) and not lines[end].strip():
        end += 1
    return start, end


def _proven(changed: str, expected: tuple[ModelCatalogEntry, ...], text: str, where: str) -> str:
    """Return the changed text if it says what it should: a catalog can be written in other ways than by tables."""
    try:
        if parse_catalog(changed, where=where) == expected:
            return changed
    except ConfigError:
        pass
    line = toml_line_of(text)(("models",))
    raise ConfigError(
        f"{where}:{line}: models is not written as [[models]] tables, so mecha does not change it",
        hint="Change the file by hand, or write each model as a [[models]] table.",
    )
