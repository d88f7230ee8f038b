"""An application behind `Access`, answering over real connections, and requests made byte by byte."""

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from mecha.daemon.access import LISTENER_KEY
from mecha.daemon.connection import OwnConnection
from tests.answer import Answer
from tests.in_thread import in_thread

TOKEN = "a-token-of-this-test-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Answering:
    """An application that answers at an address of this machine, or at a path."""

    address: tuple[str, int] | str

    @property
    def port(self) -> int:
        assert not isinstance(self.address, str)
        return self.address[1]

    def connect(self) -> socket.socket:
        unix = isinstance(self.address, str)
        connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        connection.settimeout(10)
        connection.connect(self.address)
        return connection

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, /, **headers: str) -> Answer:
        """Ask without any tidying of the path; `if_match="x"` sends `If-Match: x`."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1" if isinstance(self.address, str) else self.address[0])
        with self.connect() as opened:
            connection.sock = opened
            if not isinstance(self.address, str):
                connection.port = self.address[1]
            connection.request(method, path, body=body, headers=names)
            response = connection.getresponse()
            return Answer.of(response)


def raw(answering: Answering, text: bytes, *, then: Callable[[socket.socket], None] = lambda opened: None) -> bytes:
    """Send bytes as they are, and return all that comes until the other end closes."""
    with answering.connect() as opened:
        with contextlib.suppress(ConnectionError):  # the other end may be gone before the first byte is on its way
            opened.sendall(text)
            then(opened)
        return rest_of(opened)


def rest_of(opened: socket.socket) -> bytes:
    parts = []
    try:
        while part := opened.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


@contextmanager
def answering(
    app: ASGIApp,
    *,
    unix: Path | None = None,
    connection: type[OwnConnection] = OwnConnection,
    tls: tuple[Path, Path] | None = None,
) -> Iterator[Answering]:
    """Serve an application as the daemon does, from a thread; `tls`: files of certificate and key."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, LISTENER_KEY: "tcp" if unix is None else "unix"}, receive, send)

    opened = socket.socket(socket.AF_UNIX) if unix is not None else socket.create_server(("127.0.0.1", 0))
    with opened:
        if unix is not None:
            opened.bind(str(unix))
            opened.listen()
        config = uvicorn.Config(
            marked, http=connection, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=1, ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )  # fmt: skip
        with in_thread(config, opened):
            yield Answering(str(unix) if unix is not None else opened.getsockname()[:2])


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with how many bytes came; `/early` before any, `/long` with many."""
    size = 0
    more = scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        size += len(message["body"])
        more = message.get("more_body", False)
    body = b"x" * (64 << 20) if scope["path"] == "/long" else str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Impatient(OwnConnection):
    """Waits for half a second where others wait longer."""

    headers_s = 0.5
    unread_s = 0.5
