"""Reading and changing what a node runs with, from outside of it: what `mecha config` does."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mecha.errors import ConfigError, NotFoundError
from mecha.project import Project
from mecha.runtime.config import Layer, NodeConfig, load_config, read_layers
from mecha.runtime.program import load_node
from mecha.store.atomic import write_file
from mecha.validation import parse_json
from mecha.words import did_you_mean


def effective_config(project: Project, node: str, environ: Mapping[str, str]) -> NodeConfig:
    """Return what a node runs with: all layers together, defaults included.

    Raises:
        NotFoundError: the project has no such node.
        ConfigError: with every fault of its config files.
    """
    model = load_node(project.nodes_dir, node).config_model
    return load_config(model, read_layers(project.node_config_files(node), project.root, environ))


def value_at(config: NodeConfig, key: str) -> Any:  # noqa: ANN401 - whatever the key holds
    """Return one value of a config by its dotted key, as JSON holds it.

    Raises:
        NotFoundError: there is no such key.
    """
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        known = list(value) if isinstance(value, dict) else []
        if part not in known:
            raise NotFoundError(f'no key "{key}"{did_you_mean(part, known)}')
        value = value[part]
    return value


def set_value(project: Project, node: str, key: str, text: str, environ: Mapping[str, str]) -> Path:
    """Write one value into the node's config.json, that of the environment when one is chosen, and return the file.

    The file is replaced in one step, and only when the config that results is valid.

    Args:
        key: dotted for tables in tables.
        text: a JSON value; what is none is taken as a string.

    Raises:
        NotFoundError: the project has no such node.
        ConfigError: the file is broken, or would be: with every fault.
        DiskError: the file cannot be written.
    """
    return _changed(project, node, environ, lambda table: _put(table, key.split("."), _parsed(text)))


def set_values(project: Project, node: str, values: Mapping[str, Any], environ: Mapping[str, str]) -> Path:
    """Write several values at once, as `set_value` does: all of them or none. Tables are gone through key by key.

    Raises:
        MechaError: as `set_value`.
    """
    return _changed(project, node, environ, lambda table: _lay_over(table, values))


def _changed(project: Project, node: str, environ: Mapping[str, str], change: Callable[[dict[str, Any]], None]) -> Path:
    """Write the node's config.json with a change in it; raises as `set_value`."""
    model = load_node(project.nodes_dir, node).config_model
    files = project.node_config_files(node)
    target = files[-1]
    layers = list(read_layers(files, project.root, environ))
    mine = layers[len(files) - 1]
    table = {} if mine.text is None else parse_json(mine.text.decode("utf-8-sig"), where=mine.where)
    if not isinstance(table, dict):
        raise ConfigError(f"{mine.where}:1: got {json.dumps(table)[:60]}; expected a table of keys, as in {{}}")
    change(table)
    new = (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()
    layers[len(files) - 1] = Layer(mine.where, new)
    load_config(model, layers)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, new)
    return target


def _parsed(text: str) -> Any:  # noqa: ANN401 - the value of any JSON text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _put(table: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401 - as above
    for part in path[:-1]:
        if not isinstance(table.get(part), dict):
            table[part] = {}
        table = table[part]
    table[path[-1]] = value


def _lay_over(table: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        below = table.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _lay_over(below, value)
        else:
            table[key] = value
