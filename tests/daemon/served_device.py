"""The routes of a device on a real connection, with a daemon that a test started."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import APIRouter, FastAPI

from mecha.daemon.app import daemon_app
from mecha.daemon.daemon import Daemon
from mecha.project import find_project
from tests.answer import Answer
from tests.in_thread import in_thread
from tests.runtime.supervision import PATIENCE_S
from tests.runtime.waiting import wait_for


@dataclass(frozen=True)
class Served:
    """A daemon, and where it answers."""

    daemon: Daemon
    port: int

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = self.open()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return Answer.of(response)
        finally:
            connection.close()

    def send(self, method: str, path: str, document: object) -> Answer:
        return self.ask(method, path, json.dumps(document).encode(), content_type="application/json")

    def wait_for_state(self, node: str, state: str) -> None:
        def reached() -> bool:
            known = self.daemon.state.node(node)
            return known is not None and known.state == state

        wait_for(reached, timeout_s=PATIENCE_S, what=f"{node}: {state}")


@contextmanager
def served(root: Path, *routers: APIRouter, start: bool = True, daemon: Daemon | None = None) -> Iterator[Served]:
    """Serve the whole application of a project's daemon, or some routers beside what it answers to failures."""
    daemon = daemon or Daemon(find_project(root, os.environ), os.environ)
    app = daemon_app(daemon)
    if routers:
        only = FastAPI(exception_handlers=app.exception_handlers)  # type: ignore[arg-type]  # as FastAPI itself has it
        for router in routers:
            only.include_router(router)
        app = only
    with socket.create_server(("127.0.0.1", 0)) as opened:
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
                                timeout_graceful_shutdown=1)  # fmt: skip
        if start:
            daemon.start()
        try:
            with in_thread(config, opened):
                try:
                    yield Served(daemon, opened.getsockname()[1])
                finally:
                    daemon.events.close()  # streams of events end, and with them their connections
        finally:
            daemon.stop(2)
