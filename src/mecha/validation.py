"""From the text of a TOML or JSON file to a typed model, or one sentence for each of its faults.

`model_catalog.toml:12: models[2].quantize.method: got "int4"; expected dynamic_int8, static_int8 or auto`
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mecha.errors import ConfigError, DiskError, NotFoundError
from mecha.faults import Expected, KeyFault, faults_of
from mecha.positions import KeyPath, LineOf, json_line_of, shown, toml_line_of
from mecha.words import nearest

__all__ = [
    "Expected",
    "Frozen",
    "checked",
    "config_error",
    "decoded",
    "json_line_of",
    "nearest",
    "parse_json",
    "parse_toml",
    "read_bytes",
    "read_text",
    "toml_line_of",
    "validated",
]

M = TypeVar("M", bound=BaseModel)
_LARGEST_TEXT = 16 << 20


class Frozen(BaseModel):
    """A value read from a file: never changed after it was read, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def validated(model: type[M], data: object, *, where: str, line_of: LineOf, prefix: KeyPath = ()) -> M:
    """Return `data` as `model`.

    Types are taken as written: "yes" is no boolean, "3" no number.

    Args:
        model: the pydantic model; `Expected` in its annotations words what a field takes.
        data: what a TOML or JSON parser returned.
        where: names the file in messages.
        line_of: gives the line of a key path of the whole file.
        prefix: key path of `data` in the file.

    Raises:
        ConfigError: with all faults, one a line, in the order of the file.
    """
    result, faults = checked(model, data, line_of=line_of, prefix=prefix)
    if result is None:
        raise config_error(where, faults)
    return result


def checked(
    model: type[M], data: object, *, line_of: LineOf, prefix: KeyPath = ()
) -> tuple[M | None, tuple[KeyFault, ...]]:
    """Return `data` as `model`, or None and every fault: for callers who find faults of their own."""
    try:
        # JSON mode is the only strict one that takes a list for a tuple (so a model must not have a `before` validator
        # of the whole: behind it the lists are Python's). TOML dates, which no model of ours has, arrive as text.
        return model.model_validate_json(json.dumps(data, default=str), strict=True), ()
    except ValidationError as error:
        return None, tuple(faults_of(error, model, data, line_of, prefix))


def config_error(where: str, faults: Iterable[KeyFault]) -> ConfigError:
    """Return the error that tells all faults of one file, in the order of its lines."""
    ordered = sorted(faults, key=lambda fault: (fault.line or 0, shown(fault.path)))
    return ConfigError("\n".join(fault.sentence(where) for fault in ordered))


def read_text(path: Path, *, where: str) -> str:
    """Return the text of a UTF-8 file; a byte order mark, which some editors write, is no part of it.

    Raises:
        NotFoundError: there is no such file.
        DiskError: it cannot be read.
        ConfigError: it is not UTF-8, or far too large for a file that people write.
    """
    return decoded(read_bytes(path, where=where), where=where)


def read_bytes(path: Path, *, where: str) -> bytes:
    """Return the bytes of a file of text; raises as `read_text`."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_TEXT + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"{where}: no such file") from error
    except OSError as error:
        raise DiskError(f"{where}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(content) > _LARGEST_TEXT:
        raise ConfigError(f"{where}: got more than 16 MB; expected a text of at most that")
    return content


def decoded(content: bytes, *, where: str) -> str:
    """Return bytes as text; raises ConfigError as `read_text`."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: byte {error.start} is not UTF-8 text", hint="Save the file as UTF-8.") from error


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ConfigError: with line and column of the first syntax error.
    """
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        what = f"{error.msg[:1].lower()}{error.msg[1:]}"
        raise ConfigError(f"{where}:{error.lineno}:{error.colno}: not TOML: {what}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not TOML: {_too_much(error)}") from error


def parse_json(text: str, *, where: str) -> Any:  # noqa: ANN401 - the value of any JSON text
    """Parse JSON.

    Raises:
        ConfigError: with line and column of the first syntax error.
    """
    if not text.strip():
        raise ConfigError(f"{where}: the file is empty; expected JSON")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{where}: not JSON: {_too_much(error)}") from error
    except json.JSONDecodeError as error:
        what = f"{error.msg[:1].lower()}{error.msg[1:]}"
        position = error.pos
        before = text[:position].rstrip()
        # Python 3.13 names the comma; before it, the message is about the bracket behind the comma.
        if text[position : position + 1] in ("}", "]") and before.endswith(","):
            position = len(before) - 1
            what = "illegal trailing comma"
        elif what.startswith("illegal trailing comma"):
            what = "illegal trailing comma"
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        raise ConfigError(f"{where}:{line}:{column}: not JSON: {what}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {_too_much(error)}") from error


def _too_much(error: Exception) -> str:
    """Say what a parser could not take that is no fault of syntax."""
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of thousands of digits"
