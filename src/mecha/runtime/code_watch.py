"""The programs of nodes while they run: a change is proven first, and only then the old process goes."""

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Lock
from typing import Self

from mecha.child_process import exit_words
from mecha.project import Project
from mecha.runtime.process import node_command
from mecha.runtime.watch import Contents, FileWatch

REMEDY = "The node goes on with the code it was started with; correct the file and save it."
_SETTLE_S = 0.3
"""Longer than for a config: several files are saved one after the other."""


def code_files(folder: Path) -> tuple[Path, ...]:
    """Return the Python files of a node's folder, those of its tests apart, sorted."""
    return tuple(sorted(file for file in folder.rglob("*.py") if not file.name.startswith("test_")))


class CodeWatch:
    """Watches the programs of some nodes. A context manager.

    A child process imports what is new, and reads the node's config with it. Where that works the node is started
    again; where it does not, the fault is told and the old process goes on. A fault that the config has part in is gone
    when the config is right, so a change of the config is a reason to try again.

    Args:
        project: whose nodes they are.
        environs: the environment of each node's process, by its name.
        on_proven: called with the name of a node whose new code works, from another thread.
        on_fault: called with the name of a node and what is wrong with its new code, from another thread.
        deadline_s: how long the proof for a node may take.
    """

    def __init__(
        self,
        project: Project,
        environs: Mapping[str, Mapping[str, str]],
        *,
        on_proven: Callable[[str], None],
        on_fault: Callable[[str, str], None],
        deadline_s: Callable[[str], float],
    ) -> None:
        self._watches = [
            _NodeWatch(project, name, environ, on_proven, on_fault, deadline_s(name))
            for name, environ in environs.items()
        ]

    def __enter__(self) -> Self:
        for watch in self._watches:
            watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.stop()


class _NodeWatch:
    """The program of one node."""

    def __init__(
        self,
        project: Project,
        name: str,
        environ: Mapping[str, str],
        on_proven: Callable[[str], None],
        on_fault: Callable[[str, str], None],
        deadline_s: float,
    ) -> None:
        self._name = name
        self._on_proven = on_proven
        self._on_fault = on_fault
        self._check = Check(name, project.root, environ, deadline_s)
        self._faulty = False
        configs = project.node_config_files(name)
        self._configs = len(configs)
        self._code: Contents | None = None
        self._watch = FileWatch(
            lambda: (*configs, *code_files(project.nodes_dir / name)),
            self._changed,
            whole=self._whole,
            settle_s=_SETTLE_S,
        )

    def start(self) -> None:
        self._code = self._watch.last[self._configs :]
        self._watch.start()

    def stop(self) -> None:
        self._check.stop()
        self._watch.stop()

    def _whole(self, contents: Contents) -> bool:
        try:
            for content in contents[self._configs :]:
                ast.parse(content or b"")
        except (SyntaxError, ValueError):
            return False
        return True

    def _changed(self, contents: Contents) -> None:
        code = contents[self._configs :]
        if code == self._code and not self._faulty:
            return
        self._code = code
        fault = self._check.fault()
        self._faulty = fault is not None
        if fault is None:
            self._on_proven(self._name)
        elif fault:
            self._on_fault(self._name, f"{fault}\n{REMEDY}")


class Check:
    """Proves in a child process that a node can be imported and takes its config.

    Args:
        node: its name.
        root: the project's root.
        environ: of the node's process.
        deadline_s: how long it may take.
    """

    def __init__(self, node: str, root: Path, environ: Mapping[str, str], deadline_s: float) -> None:
        self._command = [*node_command(node, root), "--check"]
        self._environ = dict(environ)
        self._deadline_s = deadline_s
        self._stopping = Event()
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def fault(self) -> str | None:
        """Return what is wrong; None when nothing is, empty when `stop` was called meanwhile."""
        try:
            process = self._started()
        except OSError as error:
            return f"cannot be tried: {(error.strerror or str(error)).lower()}"
        if process is None:
            return ""
        with process:
            try:
                # Its input stays open: the end of it would tell the child that this process is gone.
                said = _said(process, self._deadline_s)
            except subprocess.TimeoutExpired:
                _kill(process)
                return f"cannot be imported within {self._deadline_s:g} s"
        if self._stopping.is_set():
            return ""
        return None if process.returncode == 0 else said or f"its import ended with {exit_words(process.returncode)}"

    def stop(self) -> None:
        """End the child, and start none any more."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                _kill(self._process)

    def _started(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
            return self._process


def _said(process: subprocess.Popen[bytes], deadline_s: float) -> str:
    """Return the errors that the child tells of, once it has ended; raises TimeoutExpired."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        # A short text waits in the pipe.
        process.wait(deadline_s)
    if process.returncode is None:
        raise subprocess.TimeoutExpired(process.args, deadline_s)
    lines = process.stdout.read().splitlines() if process.stdout is not None else []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            found += [str(event["message"])] if event.get("event") == "error" else []
    return "\n".join(found)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
