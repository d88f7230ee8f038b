"""Serving a folder as a Hub: for robots on a LAN, for the demo, and for this project's own tests."""

import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mecha.errors import BusyError, NetworkError, NotFoundError
from mecha.hub.mirror_app import mirror_app
from mecha.hub.mirror_files import ServedFolder

__all__ = ["RunningMirror", "ServedRequest", "create_mirror", "running_mirror", "serve_mirror"]

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LOG_REQUESTS = 10_000
# A robot fleet behind one gateway stays far below; beyond it a request gets 503 and the client tries again.
_CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One answered request; `body_bytes` counts what was handed to the connection."""

    method: str
    path: str
    status: int
    body_bytes: int


class RequestLog:
    """ASGI layer that remembers the last requests and counts the body bytes of all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._bytes_served = 0
        self._requests: deque[ServedRequest] = deque(maxlen=_LOG_REQUESTS)

    @property
    def bytes_served(self) -> int:
        """Body bytes of all answers so far, unfinished ones included."""
        with self._lock:
            return self._bytes_served

    @property
    def requests(self) -> tuple[ServedRequest, ...]:
        """The requests whose answers were handed over, or broke off, oldest first."""
        with self._lock:
            return tuple(self._requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        status, sent, logged = 0, 0, False

        def log() -> None:
            nonlocal logged
            if not logged:
                logged = True
                with self._lock:
                    self._requests.append(ServedRequest(scope["method"], scope["path"], status, sent))

        async def counting_send(message: Message) -> None:
            nonlocal start, status, sent
            if message["type"] == "http.response.start":
                # Held back until the body is known: who has read an answer must find it in the log, and an answer
                # without a body is over with its headers.
                start, status = message, message["status"]
                return
            # HEAD has a body for the application, and none on the wire.
            length = 0 if scope["method"] == "HEAD" else len(message.get("body", b""))
            sent += length
            with self._lock:
                self._bytes_served += length
            if not message.get("more_body", False):
                log()
            if start is not None:
                await send(start)
                start = None
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        finally:
            log()


@dataclass(frozen=True, slots=True)
class RunningMirror:
    """A mirror that answers on `endpoint`, for example `http://127.0.0.1:40123`."""

    endpoint: str
    log: RequestLog

    @property
    def bytes_served(self) -> int:
        """Body bytes of all answers so far."""
        return self.log.bytes_served

    @property
    def requests(self) -> tuple[ServedRequest, ...]:
        """The last finished requests, oldest first."""
        return self.log.requests


def create_mirror(folder: Path, *, token: str | None = None) -> FastAPI:
    """Return the application that serves a folder, for any ASGI server.

    Args:
        folder: holds `owner/name/file…` for models and `datasets/owner/name/file…` for datasets.
        token: when given, every request must carry it as `Authorization: Bearer …`.
    """
    return mirror_app(ServedFolder(folder), token=token)


def serve_mirror(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a folder until the process is asked to stop (SIGINT or SIGTERM, which are then delivered again).

    Args:
        folder: holds `owner/name/file…` and `datasets/owner/name/file…`.
        host: the address to listen on; 0.0.0.0 for all of this machine's.
        port: 0 takes a free one.
        token: when given, only requests that carry it are answered.
        on_ready: called once, with the endpoint, when requests are answered. All files are hashed before.

    Raises:
        NotFoundError: there is no such folder.
        BusyError: the port is taken.
        NetworkError: the address cannot be listened on.
    """
    app = _indexed(folder, token)
    with _listening(host, port) as listener:
        endpoint = _endpoint(listener)
        _Server(app, lambda: on_ready(endpoint) if on_ready else None).run(sockets=[listener])


@contextmanager
def running_mirror(folder: Path, *, token: str | None = None) -> Iterator[RunningMirror]:
    """Serve a folder on a free loopback port from a thread of this process, until the block ends."""
    log = RequestLog(_indexed(folder, token))
    ready = threading.Event()
    with _listening("127.0.0.1", 0) as listener:
        server = _Server(log, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="mecha-mirror", daemon=True)
        thread.start()
        try:
            if not ready.wait(_START_TIMEOUT_S):
                raise NetworkError(f"mirror of {folder}: not ready after {_START_TIMEOUT_S:.0f} s")
            yield RunningMirror(_endpoint(listener), log)
        finally:
            server.should_exit = True
            thread.join(_STOP_TIMEOUT_S)


class _Server(uvicorn.Server):
    """Uvicorn, quiet, saying when it is ready."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], None]) -> None:
        # Connections of clients that went away are not waited for longer than a second.
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        self._on_ready()


def _indexed(folder: Path, token: str | None) -> FastAPI:
    """Hash everything first: a client waits some ten seconds for its first answer, a large folder takes longer."""
    if not folder.is_dir():
        raise NotFoundError(
            f"{folder}: no such folder; expected one that holds owner/name/file",
            hint="Give the folder that holds the repos, not a repo or a file in it.",
        )
    served = ServedFolder(folder)
    for repo_type, repo_id in served.repos():
        served.snapshot(repo_type, repo_id)
    return mirror_app(served, token=token)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"{host}:{port}: another program listens there already", hint="Choose another port with --port."
            ) from error
        # Python's own text repeats the address.
        reason = error.strerror if isinstance(error, socket.gaierror) or not error.errno else os.strerror(error.errno)
        raise NetworkError(
            f"{host}:{port}: cannot listen there: {reason}", hint="Give an address of this machine, or 0.0.0.0 for all."
        ) from error
    with listener:
        yield listener


def _endpoint(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
