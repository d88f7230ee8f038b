"""Serving a folder as a Hub: for robots on a LAN, for the demo, and for this project's own tests."""

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from mecha.errors import BusyError, DiskError, NetworkError, NotFoundError
from mecha.hub.bounded_socket import BoundedSocket, bearable
from mecha.hub.gateway import Gateway
from mecha.hub.guarded_connection import GuardedConnection
from mecha.hub.mirror_app import mirror_app
from mecha.hub.mirror_files import ServedFolder
from mecha.hub.mirror_log import RequestLog, ServedRequest
from mecha.hub.server_log import quiet_server_log
from mecha.hub.thorough_server import ThoroughServer
from mecha.store.atomic import make_dir

__all__ = ["RunningMirror", "ServedRequest", "create_mirror", "running_mirror", "serve_mirror"]

_LOG = logging.getLogger(__name__)
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_BACKLOG = 256
_MOST_CONNECTIONS = 320
"""From so many on they are closed at once: a robot fleet behind one gateway stays far below."""
_FILES_OF_ONE = 2
"""Its socket, and the file that is sent."""


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
    gateway: Gateway | None = None,
) -> None:
    """Serve a folder until the process is asked to stop (SIGINT or SIGTERM, which are then delivered again).

    Args:
        folder: holds `owner/name/file…` and `datasets/owner/name/file…`.
        host: the address to listen on; 0.0.0.0 for all of this machine's.
        port: 0 takes a free one.
        token: when given, only requests that carry it are answered.
        on_ready: called once, with the endpoint, when requests are answered. All files are hashed before.
        gateway: asked for what the folder lacks; then the folder need not exist.

    Raises:
        NotFoundError: there is no such folder.
        DiskError: the folder cannot be made.
        BusyError: the port is taken.
        NetworkError: the address cannot be listened on.
    """
    app = _indexed(folder, token, gateway)
    with _listening(host, port) as listener:
        endpoint = _endpoint(listener)
        _Server(app, lambda: on_ready(endpoint) if on_ready else None, listener.polite).run(sockets=[listener])


@contextmanager
def running_mirror(folder: Path, *, token: str | None = None, port: int = 0) -> Iterator[RunningMirror]:
    """Serve a folder on a loopback port, 0 for a free one, from a thread of this process, until the block ends."""
    log = RequestLog(_indexed(folder, token))
    ready = threading.Event()
    with _listening("127.0.0.1", port) as listener:
        server = _Server(log, ready.set, listener.polite)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="mecha-mirror", daemon=True)
        thread.start()
        try:
            if not ready.wait(_START_TIMEOUT_S):
                raise NetworkError(f"mirror of {folder}: not ready after {_START_TIMEOUT_S:.0f} s")
            yield RunningMirror(_endpoint(listener), log)
        finally:
            server.should_exit = True
            thread.join(_STOP_TIMEOUT_S)


class _Connection(GuardedConnection):
    """One connection of a robot, whose line may be slow and break off for minutes."""

    headers_s = 30.0
    unread_s = 300.0


class _Server(ThoroughServer):
    """Uvicorn, quiet, saying when it is ready."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], None], connections: int) -> None:
        quiet_server_log()
        # Connections of clients that went away are not waited for longer than a second.
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=connections,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        self._on_ready()


def _indexed(folder: Path, token: str | None, gateway: Gateway | None = None) -> FastAPI:
    """Hash everything first: a client waits some ten seconds for its first answer, a large folder takes longer."""
    if gateway is not None:
        make_dir(folder)
    if not folder.is_dir():
        raise NotFoundError(
            f"{folder}: no such folder; expected one that holds owner/name/file",
            hint="Give the folder that holds the repos, not a repo or a file in it.",
        )
    served = ServedFolder(folder)
    for repo_type, repo_id in served.repos():
        try:
            served.snapshot(repo_type, repo_id)
        except DiskError as error:
            _LOG.warning("%s; %s is answered 503 as long as that is so", error, repo_id)
    return mirror_app(served, token=token, gateway=gateway)


@contextmanager
def _listening(host: str, port: int) -> Iterator[BoundedSocket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
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
    with BoundedSocket.around(listener, bearable(_MOST_CONNECTIONS, _FILES_OF_ONE)) as bounded:
        yield bounded


def _endpoint(listener: socket.socket) -> str:
    """Return the address to give to clients; instead of "all addresses", this machine's own on its network."""
    host, port = listener.getsockname()[:2]
    if host == "0.0.0.0":  # noqa: S104  # compared, not listened on
        host = _own_address(socket.AF_INET, "192.0.2.1", "127.0.0.1")
    elif host == "::":
        host = _own_address(socket.AF_INET6, "2001:db8::1", "::1")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _own_address(family: socket.AddressFamily, elsewhere: str, otherwise: str) -> str:
    """Return the address that packets to another network would leave from; asking sends none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((elsewhere, 9))
            return str(asking.getsockname()[0])
    except OSError:
        return otherwise
