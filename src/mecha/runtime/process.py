"""One node as a child process: started by exec, read line by line, ended by its id."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mecha.child_process import piped, read_lines
from mecha.errors import NodeError
from mecha.runtime.events import prefixed
from mecha.runtime.guard import Guard
from mecha.runtime.lifeline import SHOW_SIGNAL

_LOG_LINE = re.compile(r"\[[A-Z]+\] ")
_READ_OUT_S = 1.0
_SIGNS_OF_LIFE = frozenset({"ready", "stats"})


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A line of the log of a node, with its prefix."""

    process: "NodeProcess"
    text: str


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """An event of a node; see `mecha.runtime.events`."""

    process: "NodeProcess"
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NodeExit:
    """The process has ended and all it wrote was read, unless others hold its output; a negative code is a signal."""

    process: "NodeProcess"
    code: int


News = NodeLine | NodeEvent | NodeExit


class NodeProcess:
    """Runs a node in its own process group.

    Args:
        node: its name.
        root: the project's root.
        environ: of the process.
        guard: of its process group.
        on_news: called with what it writes and with its end, from other threads.

    Attributes:
        heard_at_s: when it last showed that it lives, on the monotonic clock; its start before that.

    Raises:
        NodeError: the process cannot be started.
    """

    def __init__(
        self, node: str, root: Path, environ: Mapping[str, str], guard: Guard, on_news: Callable[[News], None]
    ) -> None:
        self.node = node
        self._guard = guard
        self.heard_at_s = time.monotonic()
        self._on_news = on_news
        self._unwaited = threading.Lock()
        try:
            self._process = subprocess.Popen(
                node_command(node, root),
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C in the terminal is for the supervisor, which ends its nodes in order.
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise NodeError(f"{node}: cannot be started: {(error.strerror or str(error)).lower()}") from error
        guard.add(self._process.pid)
        self._readers = (
            read_lines(self._process.stdout, self._take_event, f"{node}-events"),
            read_lines(self._process.stderr, self._take_line, f"{node}-log"),
        )
        threading.Thread(target=self._wait, name=f"{node}-wait", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Write a line to the node, see `mecha.runtime.lifeline`; one that has ended does not mind."""
        # A closed stream raises ValueError.
        with contextlib.suppress(OSError, ValueError):
            stream = piped(self._process.stdin)
            stream.write(line + b"\n")
            stream.flush()

    def stop(self) -> None:
        """Ask the node to end."""
        with contextlib.suppress(OSError):
            piped(self._process.stdin).close()
        if sys.platform != "win32":
            self._signal(signal.SIGTERM)

    def show_where(self) -> None:
        """Let the node write to its log where each of its threads is."""
        if SHOW_SIGNAL is not None:
            self._signal(SHOW_SIGNAL)

    def kill(self) -> None:
        """End the node, and what it started, at once."""
        if sys.platform == "win32":
            self._process.kill()
        else:
            self._signal(signal.SIGKILL, os.killpg)

    def _signal(self, number: int, send: Callable[[int, int], None] = os.kill) -> None:
        """Send a signal while the id is the node's own: until it was waited for.

        Not by `Popen.send_signal`, which waits for a process that has ended meanwhile: then `_wait` would miss its end.
        """
        with self._unwaited, contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                send(self._process.pid, number)

    def _take_event(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self._on_news(NodeLine(self, prefixed("INFO", self.node, line.decode(errors="replace"))))
            return
        if event.get("event") in _SIGNS_OF_LIFE:
            self.heard_at_s = time.monotonic()
        self._on_news(NodeEvent(self, event))

    def _take_line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        # What Python, a library or `print` writes has no prefix of ours.
        self._on_news(NodeLine(self, text if _LOG_LINE.match(text) else prefixed("INFO", self.node, text)))

    def _wait(self) -> None:
        if hasattr(os, "waitid"):
            # The group's id is its own as long as its first process has not been waited for.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._guard.remove(self._process.pid)
            with self._unwaited:
                code = self._process.wait()  # it has ended
        else:
            code = self._process.wait()
            self._guard.remove(self._process.pid)
        # What the node started in a session of its own may hold its output, and live on.
        for thread in self._readers:
            thread.join(_READ_OUT_S)
        with contextlib.suppress(OSError):
            piped(self._process.stdin).close()
        self._on_news(NodeExit(self, code))


def node_command(node: str, root: Path) -> list[str]:
    """Return how a node is started."""
    # -P: the working directory is no place to look for modules of ours.
    return [sys.executable, "-P", "-m", "mecha.runtime.run", node, "--project", str(root)]
