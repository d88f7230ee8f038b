"""nodes/<name>/node.py: find it and load the node it defines."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from mecha.errors import ConfigError, MechaError, NodeError, NotFoundError
from mecha.runtime.contract import checked_node
from mecha.runtime.node import Node
from mecha.words import alternatives, did_you_mean

PROGRAM_NAME = "node.py"


def node_names(nodes_dir: Path) -> tuple[str, ...]:
    """Return the names of a project's nodes, sorted."""
    if not nodes_dir.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in nodes_dir.iterdir() if (folder / PROGRAM_NAME).is_file()))


def require_node(nodes_dir: Path, name: str) -> Path:
    """Return the program of a node.

    Raises:
        NotFoundError: the project has no such node.
    """
    known = node_names(nodes_dir)
    if name not in known:
        raise NotFoundError(
            f'no node "{name}": {nodes_dir / name / PROGRAM_NAME} is no file{did_you_mean(name, known)}',
            hint=f"The nodes here are {alternatives(known)}."
            if known
            else "`mecha init` lays out a project with nodes.",
        )
    return nodes_dir / name / PROGRAM_NAME


def load_node(nodes_dir: Path, name: str) -> type[Node[Any]]:
    """Return the class that a node's program defines. Modules beside the program can be imported by it.

    Raises:
        NotFoundError: the project has no such node.
        NodeError: the program cannot be imported.
        ConfigError: it defines no node, or several, or one that cannot be run: see `mecha.runtime.contract`.
    """
    program = require_node(nodes_dir, name)
    module = _imported(program, name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Node) and value.__module__ == module.__name__
    ]
    # A node may derive from another one of the same file: the last in the line is meant.
    nodes = [one for one in found if not any(other is not one and issubclass(other, one) for other in found)]
    if len(nodes) != 1:
        got = alternatives([one.__name__ for one in nodes]) if nodes else "no class that derives from Node"
        raise ConfigError(f"{program}: got {got}; expected one class that derives from mecha.Node")
    return checked_node(nodes[0], program)


def _imported(program: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mecha_node_{name.replace('-', '_')}", program)
    if spec is None or spec.loader is None:
        raise NodeError(f"{program}: cannot be imported as a Python program")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(program.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except MechaError:
        raise
    except Exception as error:
        raise NodeError(f"{program}: cannot be imported: {what_failed(error)}") from error
    return module


def what_failed(error: BaseException) -> str:
    """Return an exception in one line, with the place where it came up."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    text = str(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"
