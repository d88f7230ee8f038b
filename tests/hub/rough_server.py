"""A real HTTP server that misbehaves as told: it cuts, stalls, lies about ranges, redirects in circles, refuses."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range_start(self) -> int:
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


@dataclass(frozen=True)
class Reply:
    """What is sent.

    Attributes:
        cut_after: bytes of the body after which the connection is closed.
        stall: instead of closing it, nothing more is sent.
        silent: nothing is sent at all.
        gate: held while a piece waits, so that all connections share one rate.
        drip: pieces of so many bytes are sent, with so many seconds between them.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    stall: bool = False
    silent: bool = False
    drip: tuple[int, float] | None = None
    gate: "threading.Lock | None" = None
    content_length: bool = True


Move = Callable[[Seen], Reply]


class RoughServer(ThreadingHTTPServer):
    """Answers each request with the next move; the last one stays."""

    daemon_threads = True

    def __init__(self, moves: list[Move], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.moves = moves
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self.open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def next_move(self, seen: Seen) -> Move:
        with self._lock:
            self.seen.append(seen)
            return self.moves[min(len(self.seen), len(self.moves)) - 1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection: it would outlive the server where a client keeps it for its next question."""
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent when a client goes away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RoughServer

    def do_GET(self) -> None:
        seen = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        reply = self.server.next_move(seen)(seen)
        if reply.silent:
            self.close_connection = True
            self.server.closing.wait(30)
            return
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.content_length and "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.close_connection = not reply.content_length or reply.cut_after is not None
        if self.command == "HEAD":
            return
        body = reply.body if reply.cut_after is None else reply.body[: reply.cut_after]
        piece, pause_s = reply.drip or (max(len(body), 1), 0.0)
        for start in range(0, len(body), piece):
            self.wfile.write(body[start : start + piece])
            with reply.gate or nullcontext():
                self.server.closing.wait(pause_s)
        if reply.stall:
            self.server.closing.wait(30)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named so by http.server
        """Print nothing."""


@contextmanager
def rough_server(*moves: Move, tls: ssl.SSLContext | None = None) -> Iterator[RoughServer]:
    server = RoughServer(list(moves), tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        for connection in list(server.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()


def always(reply: Reply) -> Move:
    return lambda seen: reply


def honest(content: bytes, *, etag: str = '"v1"', cut_after: int | None = None, stall: bool = False) -> Move:
    """Answer ranges as they should be; optionally stop in the middle of the body."""

    def move(seen: Seen) -> Reply:
        start = seen.range_start
        if start and seen.headers.get("if-range", etag) == etag:
            if start >= len(content):
                return Reply(416, {"Content-Range": f"bytes */{len(content)}"})
            headers = {"ETag": etag, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return Reply(206, headers, content[start:], cut_after=cut_after, stall=stall)
        return Reply(200, {"ETag": etag}, content, cut_after=cut_after, stall=stall)

    return move


def deaf_to_ranges(content: bytes, *, cut_after: int | None = None) -> Move:
    return always(Reply(200, {}, content, cut_after=cut_after))
