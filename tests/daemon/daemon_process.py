"""A daemon as a process of its own: started, asked over its socket, killed; and what is left of it afterwards."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from mecha.daemon.place import DaemonPlace
from tests.answer import Answer
from tests.daemon.kept import environ_with
from tests.store.example import environment

PATIENCE_S = 120.0
"""A loaded machine takes its time."""


@dataclass
class DaemonProcess:
    """`mecha daemon run` in a project; a context manager that ends it, and whatever it left."""

    root: Path
    home: Path
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {"HOME": str(self.home), "PYTHONPATH": environment()["PYTHONPATH"], "OPENBLAS_NUM_THREADS": "1"}
        self.environ = environ_with(self.home, **own, **self.more)
        self.place = DaemonPlace(self.root, self.environ)
        self.log = self.home / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for process in self.left():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "it was not started"
        return self._process

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "mecha", "daemon", "run"]
            self._process = subprocess.Popen(command, cwd=self.root, env=self.environ, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as an empty battery would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of mecha beside it."""
        return subprocess.run(
            [sys.executable, "-m", "mecha", *arguments], cwd=self.root, env=self.environ, capture_output=True,
            text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Ask over the socket; raises OSError where nobody answers."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
            opened.settimeout(PATIENCE_S)
            opened.connect(str(self.place.socket))
            connection.sock = opened
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return Answer.of(response)

    def status(self) -> dict[str, Any]:
        """Return what it says of itself, nothing where it does not answer."""
        try:
            return dict(self.ask("GET", "/api/status").json)
        except (OSError, http.client.HTTPException):
            return {}

    def model(self, name: str = "arena") -> dict[str, Any]:
        return next((model for model in self.status().get("models", ()) if model["name"] == name), {})

    def node(self, name: str) -> dict[str, Any]:
        return next((node for node in self.status().get("nodes", ()) if node["name"] == name), {})

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            late = time.monotonic() > deadline_s
            if late or self.process.poll() is not None:
                said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
                how = "in time" if late else f"before the daemon ended with {self.process.returncode}"
                raise AssertionError("\n".join([f"{what}: not {how}", str(self.status()), *said]))
            time.sleep(0.05)

    def wait_until_ready(self) -> None:
        self.wait_until(lambda: bool(self.status().get("ready")), "the daemon is ready")

    def loaded(self, part: str) -> list[str]:
        """Return the paths of libraries in its memory that have this in them; none where the system does not tell."""
        maps = psutil.Process(self.process.pid).memory_maps() if hasattr(psutil.Process, "memory_maps") else []
        return [one.path for one in maps if part in one.path]

    def left(self) -> list[psutil.Process]:
        """Return all processes that it started, or that they started, and that are there still."""
        mark = str(self.home)
        return [process for process in psutil.process_iter() if process.pid != os.getpid() and _has(process, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get("HOME") == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
