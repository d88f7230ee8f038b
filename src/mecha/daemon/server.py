"""The daemon as a server: it answers on its socket, and on TCP where asked to, until a signal ends it."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from mecha.daemon.access import LISTENER_KEY
from mecha.daemon.connection import OwnConnection
from mecha.daemon.daemon import Daemon
from mecha.daemon.notify import Notifier
from mecha.daemon.token import require_private
from mecha.errors import BusyError, ConfigError, NetworkError, UsageError
from mecha.hub.bounded_socket import BoundedSocket, bearable
from mecha.hub.server_log import quiet_server_log
from mecha.redaction import redacted
from mecha.store.faults import disk_error

DEADLINE_S = 4.0
"""For the nodes; a second more is left for the rest."""
_BACKLOG = 256
MOST_CONNECTIONS = 400
"""On each listener; further ones are closed at once. Both, pulls and nodes stay within the 1024 files of a process."""
_LISTENERS = 2
_TICK_S = 1.0
_STATUS_S = 5.0
_GRACE_S = 1


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Listener:
    """Where requests come from."""

    kind: Literal["unix", "tcp"]
    opened: BoundedSocket
    tls: Tls | None = None


def serve(daemon: Daemon, app: ASGIApp, listeners: list[Listener], notifier: Notifier) -> None:
    """Answer until SIGTERM or SIGINT comes, then stop the daemon, within five seconds; SIGHUP reloads it.

    Args:
        daemon: started; it is stopped here.
        app: one for all listeners; LISTENER_KEY of the scope tells them apart.
    """
    quiet_server_log()
    gc.freeze()  # what is there stays: see OwnConnection, which has the rest looked through
    asyncio.run(_Service(daemon, app, listeners, notifier).run())


class _Service:
    def __init__(self, daemon: Daemon, app: ASGIApp, listeners: list[Listener], notifier: Notifier) -> None:
        self._daemon = daemon
        self._notifier = notifier
        self._stop = asyncio.Event()
        self._listeners = listeners
        self._servers = [_Server(_marked(app, listener.kind), listener, self._stop) for listener in listeners]
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._listen_to_signals()
        serving = [
            asyncio.create_task(server.serve(sockets=[listener.opened]))
            for server, listener in zip(self._servers, self._listeners, strict=True)
        ]
        beating = asyncio.create_task(self._beat())
        self._notifier.ready()
        stopped = asyncio.create_task(self._stop.wait())
        # A server that ends by itself, as one whose certificate cannot be read, ends all.
        await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        self._notifier.stopping()
        beating.cancel()
        # Streams of events end, and with them their connections.
        self._daemon.events.close()
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(asyncio.to_thread(self._daemon.stop, DEADLINE_S), *serving)

    def _listen_to_signals(self) -> None:
        if sys.platform == "win32":
            return  # its event loop takes no signals
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        task = asyncio.create_task(self._reloaded())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reloaded(self) -> None:
        self._notifier.reloading()
        await asyncio.to_thread(self._daemon.reload)
        self._notifier.ready()

    async def _beat(self) -> None:
        """Say that all is alive, and how it does."""
        told = ""
        every_s = min(self._notifier.watchdog_s or _STATUS_S, _STATUS_S)
        while True:
            if self._daemon.alive:
                self._notifier.alive()
            ready = self._daemon.ready
            text = "ready" if ready.ok else ready.why
            if text != told:
                told = text
                self._notifier.status(text)
            await asyncio.sleep(every_s)


class _Server(uvicorn.Server):
    """Uvicorn, quiet, without signal handlers of its own, and without waking up ten times a second."""

    def __init__(self, app: ASGIApp, listener: Listener, stop: asyncio.Event) -> None:
        tls = listener.tls
        config = uvicorn.Config(
            app,
            http=OwnConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Who says where a request came from is not asked: anybody can.
            proxy_headers=False,
            limit_concurrency=listener.opened.polite,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=str(tls.cert) if tls is not None else None,
            ssl_keyfile=str(tls.key) if tls is not None else None,
        )
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield

    async def main_loop(self) -> None:
        """Wait for the end; once a second the date of the answers is renewed."""
        counter = 0
        while not await self.on_tick(counter):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _TICK_S)
            counter += 10


def _marked(app: ASGIApp, kind: str) -> ASGIApp:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, LISTENER_KEY: kind}, receive, send)

    return marked


class LogToDaemon(logging.Handler):
    """Gives what libraries log to the log of the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(logging.WARNING)
        self._daemon = daemon

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._daemon.log(record.levelname, redacted(self.format(record)))


@contextmanager
def unix_listener(path: Path) -> Iterator[Listener]:
    """Listen on a Unix socket that only its owner can use; the file goes with the context.

    Raises:
        UsageError: something else is there, or the path is too long, or this system has no such sockets.
        BusyError: another program answers there.
        DiskError: it cannot be made.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("--socket: this system has no Unix sockets", hint="Use --listen 127.0.0.1:PORT.")
    _clear(path)
    with ExitStack() as held:
        opened = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        # From its first moment on: a chmod would come after it.
        before = os.umask(0o177)
        try:
            opened.bind(str(path))
        except OSError as error:
            if "too long" in str(error):
                raise UsageError(
                    f"--socket {path}: {len(os.fsencode(str(path)))} bytes are too long for a socket; "
                    "expected some 100 at most",
                    hint="Choose a shorter path, as in /run/mecha/daemon.sock.",
                ) from error
            raise disk_error(error, path, "make the socket") from error
        finally:
            os.umask(before)
        held.callback(path.unlink, missing_ok=True)
        opened.listen(_BACKLOG)
        with BoundedSocket.around(opened, bearable(MOST_CONNECTIONS, _LISTENERS)) as bounded:
            yield Listener("unix", bounded)


@contextmanager
def tcp_listener(address: str, tls: Tls | None) -> Iterator[Listener]:
    """Listen on HOST:PORT.

    Raises:
        UsageError: it is no address.
        BusyError: another program listens there.
        NetworkError: nobody can listen there.
        ConfigError: certificate and key do not go together, or cannot be read; or others can read the key.
    """
    host, port = parsed_address(address)
    if tls is not None:
        require_private(tls.key, "--tls-key")
        _check(tls)
    try:
        opened = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        text = (error.strerror or str(error)).lower()
        if "in use" in text:
            raise BusyError(
                f"--listen {address}: another program listens there already", hint="Choose another port."
            ) from error
        raise NetworkError(
            f"--listen {address}: cannot listen there: {text}",
            hint="Give an address of this machine, or 0.0.0.0 for all.",
        ) from error
    with BoundedSocket.around(opened, bearable(MOST_CONNECTIONS, _LISTENERS)) as bounded:
        yield Listener("tcp", bounded, tls)


def parsed_address(text: str) -> tuple[str, int]:
    """Return host and port of "127.0.0.1:8765" or "[::1]:8765".

    Raises:
        UsageError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not (colon and host and port.isdecimal() and int(port) <= 65535) or (":" in host and "[" not in text):  # noqa: PLR2004
        raise UsageError(f'--listen: got "{text}"; expected HOST:PORT, as in 127.0.0.1:8765 or [::1]:8765')
    return host, int(port)


def _check(tls: Tls) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else str(error)
        raise ConfigError(
            f"--tls-cert {tls.cert}, --tls-key {tls.key}: cannot be used: {reason}",
            hint="Both are PEM files; the key belongs to the certificate and has no password.",
        ) from error


def _clear(path: Path) -> None:
    """Remove a socket that nobody answers on any more."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise disk_error(error, path, "make the socket") from error
    if not stat.S_ISSOCK(kind):
        raise UsageError(f"--socket {path}: got a file that is there already; expected a path for a new socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise BusyError(f"--socket {path}: another program answers there", hint="Stop it, or choose another path.")
