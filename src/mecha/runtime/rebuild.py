"""The node's side of building INT8 again: start the process, stop it, take its result."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from mecha.child_process import exit_words
from mecha.errors import NodeError
from mecha.runtime.events import SUPERVISED_VARIABLE

_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How it ended.

    Attributes:
        kind: "published"; "kept" (the build before it agrees better); "busy" (another one runs, try later); "fault".
        message: one line that says more.
    """

    kind: Literal["published", "kept", "busy", "fault"]
    message: str


class Rebuild:
    """One build in a process of its own, which ends when this one does.

    Args:
        project: root of the project.
        node: its name, for the record.
        frames: the folder of those to build from.

    Raises:
        NodeError: the process cannot be started.
    """

    def __init__(self, project: Path, model: str, frames: Path, *, node: str, environ: Mapping[str, str]) -> None:
        program = [sys.executable, "-P", "-m", "mecha.runtime.rebuild_child"]
        try:
            self._process = subprocess.Popen(
                [*program, model, str(frames), "--node", node, "--project", str(project)],
                env={name: value for name, value in environ.items() if name != SUPERVISED_VARIABLE},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C is for the node.
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise NodeError(f"the build cannot be started: {(error.strerror or str(error)).lower()}") from error

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def result(self, timeout_s: float) -> Rebuilt | None:
        """Return how it ended, None when it has not within this time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        said = self._said()
        if said is None:
            return Rebuilt("fault", f"the build ended with {exit_words(self._process.returncode)}")
        if said["event"] == "done":
            return Rebuilt("published" if said["published"] else "kept", str(said["message"]))
        return Rebuilt("busy" if said["event"] == "busy" else "fault", str(said["message"]))

    def stop(self) -> None:
        """End it at once; what it was making is not believed by anybody, and swept by the next one."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            elif self._process.returncode is None:
                # The group, because the process that computes is a child of this one.
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_END_S)
        _pipe(self._process.stdout).close()

    def _said(self) -> dict[str, object] | None:
        """Return the last line, None where there is none: it is short, so it waits in the pipe."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        with _pipe(self._process.stdout) as stream:
            lines = stream.read().splitlines()
        try:
            said = json.loads(lines[-1]) if lines else None
        except ValueError:
            return None
        return said if isinstance(said, dict) else None


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("input and output of the build are pipes")
    return stream
