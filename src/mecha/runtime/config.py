"""What a node runs with: config.json of configs/common, and of the environment laid over it, key by key."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mecha.errors import ConfigError
from mecha.faults import KeyFault
from mecha.positions import KeyPath
from mecha.runtime.injection import of_this_process
from mecha.validation import Frozen, checked, json_line_of, parse_json

CONFIG_VARIABLE = "MECHA_CONFIG"
"""Holds a JSON object that is laid over the files: what was said on the command line."""

C = TypeVar("C", bound="NodeConfig")


class NodeConfig(Frozen):
    """What every config.json is: typed, frozen, without unknown keys. Derive from it to say what yours holds."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One text of a config.

    Attributes:
        where: names it in messages, usually a path from the project's root.
        text: None where there is no such file.
    """

    where: str
    text: bytes | None


def read_layers(files: Sequence[Path], root: Path, environ: Mapping[str, str]) -> tuple[Layer, ...]:
    """Read the config files of a node, and what the command line lays over them.

    Raises:
        ConfigError: a file cannot be read.
    """
    layers = [Layer(_shown(file, root), _bytes_of(file, root)) for file in files]
    said = environ.get(CONFIG_VARIABLE)
    if said:
        layers.append(Layer("command line", said.encode()))
    return tuple(layers)


def read_config_file(file: Path) -> bytes:
    """Return what a config.json holds, as the faults of this process leave it. Raises OSError."""
    return of_this_process().config_text(file.read_bytes())


def load_config(model: type[C], layers: Sequence[Layer]) -> C:
    """Return the config that the layers make together; a later one wins, key by key, in tables too.

    Raises:
        ConfigError: with every fault, each with its file and line.
    """
    tables = [_table(layer) for layer in layers]
    merged: dict[str, Any] = {}
    for table in tables:
        merged = _laid_over(merged, table)
    origins = _Origins(layers, tables)
    result, faults = checked(model, merged, line_of=origins.line_of)
    if result is None:
        raise _config_error(faults, origins)
    return result


class _Origins:
    """From which layer a key of the merged config comes: the last one that has it."""

    def __init__(self, layers: Sequence[Layer], tables: Sequence[Mapping[str, Any]]) -> None:
        self._layers: list[tuple[Layer, Mapping[str, Any]]] = list(zip(layers, tables, strict=True))

    def layer_of(self, path: KeyPath) -> Layer:
        """Return the layer of a key; a missing one belongs to the first layer, which should have it."""
        for length in range(len(path), 0, -1):
            for origin in self._layers[::-1]:
                if _has(origin[1], path[:length]):
                    return origin[0]
        present = [layer for layer, _ in self._layers if layer.text is not None]
        return present[0] if present else self._layers[0][0]

    def line_of(self, path: KeyPath) -> int | None:
        text = self.layer_of(path).text
        return json_line_of(text.decode("utf-8-sig"))(path) if text is not None else None


def _has(value: Any, path: KeyPath) -> bool:  # noqa: ANN401 - the value of any JSON text
    try:
        for part in path:
            value = value[part]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def _table(layer: Layer) -> dict[str, Any]:
    if layer.text is None:
        return {}
    try:
        text = layer.text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{layer.where}: byte {error.start} is not UTF-8 text") from error
    data = parse_json(text, where=layer.where)
    if not isinstance(data, dict):
        got = json.dumps(data, ensure_ascii=False)
        raise ConfigError(f"{layer.where}:1: got {got[:60]}; expected a table of keys, as in {{}}")
    return data


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _config_error(faults: Sequence[KeyFault], origins: _Origins) -> ConfigError:
    def sentences() -> Iterator[str]:
        for fault in sorted(faults, key=lambda fault: (origins.layer_of(fault.path).where, fault.line or 0)):
            yield fault.sentence(origins.layer_of(fault.path).where)

    return ConfigError("\n".join(sentences()))


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def _bytes_of(file: Path, root: Path) -> bytes | None:
    try:
        return read_config_file(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{_shown(file, root)}: cannot be read: {(error.strerror or str(error)).lower()}") from error
