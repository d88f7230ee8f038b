"""A daemon that answers on its socket, in a project with one model of a Hub on loopback."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import uvicorn

from mecha.daemon.app import daemon_app
from mecha.daemon.asking import SocketConnection
from mecha.daemon.daemon import Daemon
from mecha.daemon.server import unix_listener
from mecha.project import find_project
from mecha.store.blobs import packaged_models
from tests.answer import Answer
from tests.in_thread import in_thread

CATALOG = """
[[models]]
name = "arena"
task = "object-detection"
repo = "mecha/arena-n"
filename = "arena-n.onnx"
preprocessing_preset = "yolo"
license = "Apache-2.0"
"""
PATIENCE_S = 60.0


def hub_folder(folder: Path) -> Path:
    """Lay out what a mirror serves."""
    repo = folder / "mecha" / "arena-n"
    repo.mkdir(parents=True)
    # One more metadata entry makes it another file than the one in the package, which would need no download.
    model = onnx.load(packaged_models()[0])
    model.metadata_props.add(key="served_for", value="the daemon")
    onnx.save(model, repo / "arena-n.onnx")
    return folder


@dataclass(frozen=True)
class Device:
    """A daemon that answers on its socket, in a project that has one model in its catalog."""

    root: Path
    daemon: Daemon

    def open(self) -> SocketConnection:
        return SocketConnection(self.daemon.place.socket)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | bytes | None = None, **headers: str) -> Answer:
        connection = self.open()
        try:
            sent = json.dumps(body).encode() if isinstance(body, Mapping) else body
            connection.request(method, path, sent, {name.replace("_", "-"): text for name, text in headers.items()})
            connection.sock.settimeout(PATIENCE_S)
            response = connection.getresponse()
            return Answer.of(response)
        finally:
            connection.close()

    def pull(self, **more: Any) -> Answer:
        return self.ask("POST", "/api/pull", {"model": "arena", **more})


@contextmanager
def answering_on(daemon: Daemon, opened: socket.socket) -> Iterator[None]:
    config = uvicorn.Config(
        daemon_app(daemon),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    with in_thread(config, opened):
        yield


@contextmanager
def asked_device(root: Path, environ: Mapping[str, str]) -> Iterator[Device]:
    root.mkdir()
    (root / "model_catalog.toml").write_text(CATALOG)
    daemon = Daemon(find_project(root, environ), environ)
    daemon.start()
    try:
        with unix_listener(daemon.place.socket) as listener, answering_on(daemon, listener.opened):
            daemon.place.note(daemon.place.socket)
            yield Device(root, daemon)
    finally:
        daemon.stop()
