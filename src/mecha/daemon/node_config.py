"""The config of a node, read and changed through a process that runs the node's own code."""

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from mecha.daemon.children import child_environ
from mecha.daemon.problems import error_of
from mecha.errors import ConfigError, NodeError
from mecha.project import Project
from mecha.runtime.code_watch import code_files
from mecha.runtime.program import require_node

_DEADLINE_S = 30.0
_Stamp = tuple[tuple[str, int, int, int] | None, ...]


class ConfigAnswer(BaseModel):
    """What a node runs with."""

    node: str
    config: dict[str, Any] = Field(description="All files together, with the defaults.")
    written_to: str = Field(description="The file that a change goes to, from the root of the project.")
    files: list[str] = Field(description="All files that are read, the last one wins; not all need to exist.")
    constraints: dict[str, Any] = Field(description="JSON Schema of the keys, made from the program of the node.")


class NodeConfigs:
    """Configs of the nodes of one project. Used from any thread.

    Args:
        environ: of the daemon.
        deadline_s: for the code of a node.
    """

    def __init__(self, environ: Mapping[str, str], *, deadline_s: float = _DEADLINE_S) -> None:
        self._environ = child_environ(environ)
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._read: dict[str, tuple[_Stamp, ConfigAnswer]] = {}

    def read(self, project: Project, node: str) -> ConfigAnswer:
        """Return what a node runs with.

        Raises:
            NotFoundError: no such node.
            ConfigError: with every fault of its files.
            NodeError: its program cannot be run.
        """
        require_node(project.nodes_dir, node)
        with self._lock:
            stamp = _stamp(project, node)
            known = self._read.get(node)
            if known is not None and known[0] == stamp:
                return known[1]
            answer = self._asked(project, node, {})
            self._read[node] = (stamp, answer)
            return answer

    def change(self, project: Project, node: str, values: Mapping[str, Any]) -> ConfigAnswer:
        """Write values into the config.json of a node, and return what it runs with now.

        Raises:
            MechaError: as `read`, and nothing was written; DiskError: the file cannot be written.
        """
        require_node(project.nodes_dir, node)
        with self._lock:
            answer = self._asked(project, node, values)
            self._read[node] = (_stamp(project, node), answer)
            return answer

    def _asked(self, project: Project, node: str, values: Mapping[str, Any]) -> ConfigAnswer:
        where = f"configs/…/nodes/{node}/config.json"
        try:
            question = json.dumps({"values": values}, allow_nan=False, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{where}: got half of a letter (a lone surrogate); expected text") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: got NaN, Infinity or a value nested too deeply; expected JSON") from error
        said = self._said(project, node, question)
        if "error" in said:
            raise error_of(said, 0)
        files = project.node_config_files(node)
        shown = [file.relative_to(project.root).as_posix() for file in files]
        return ConfigAnswer(
            node=node, config=said["config"], written_to=shown[-1], files=shown, constraints=said["schema"]
        )

    def _said(self, project: Project, node: str, question: bytes) -> dict[str, Any]:
        command = [sys.executable, "-P", "-m", "mecha.daemon.config_child", node, "--project", str(project.root)]
        if project.environment is not None:
            command += ["--environment", project.environment]
        what = f"{project.nodes_dir / node / 'node.py'}"
        try:
            done = subprocess.run(
                command,
                input=question,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._deadline_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NodeError(f"{what}: cannot be imported within {self._deadline_s:g} s") from error
        except OSError as error:
            raise NodeError(f"{what}: cannot be tried: {(error.strerror or str(error)).lower()}") from error
        try:
            said = json.loads(done.stdout)
        except ValueError as error:
            raise NodeError(
                f"{what}: its import ended the process that reads the config (exit code {done.returncode})"
            ) from error
        return said if isinstance(said, dict) else {}


def _stamp(project: Project, node: str) -> _Stamp:
    """Return what changes with the config of a node: its files, and its program."""
    files = (*project.node_config_files(node), *sorted(code_files(project.nodes_dir / node)))
    return tuple(_file_stamp(file) for file in files)


def _file_stamp(file: Path) -> tuple[str, int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return file.name, status.st_ino, status.st_size, status.st_mtime_ns
