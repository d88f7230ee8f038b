"""The bytes of an answer, as they come over the line.

An answer of known length on a connection without TLS is read from its socket: by way of the HTTP parser, every 64 kB, a
fast line gave two thirds of that.
"""

import socket
from collections.abc import Generator, Iterator
from contextlib import suppress

import httpx2

from mecha.hub.ahead import read_ahead

# Larger pieces fall out of the processor's cache before they are written and hashed.
_READ_BYTES = 128 << 10
# A thread for less costs more than it brings.
_LEAST_AHEAD_BYTES = 1 << 20


def pieces(response: httpx2.Response, *, ahead: bool = True) -> Generator[bytes]:
    """Give the bytes of a body, none of them decoded, in pieces of any size. Close it before the response.

    Args:
        ahead: whether to receive a few megabytes more than were asked for so far, where that is faster.

    Raises:
        httpx2.HTTPError: the line broke, fell silent, or ended before the body did.
    """
    chunks = response.iter_raw()
    connection, length = _plain_socket(response), response.headers.get("content-length", "")
    if connection is None or "transfer-encoding" in response.headers or not (length.isascii() and length.isdigit()):
        yield from chunks
        return
    # What came together with the headers is in the hands of the parser, in one piece.
    first = next(chunks, b"")
    yield first
    left = int(length) - len(first)
    if left <= 0:
        return
    received = _received(connection, left, response.request)
    if ahead and left >= _LEAST_AHEAD_BYTES:
        received = read_ahead(received, lambda: _shut(connection))
    yield from received


def _received(connection: socket.socket, left: int, request: httpx2.Request) -> Iterator[bytes]:
    connection.settimeout(request.extensions.get("timeout", {}).get("read"))
    while left > 0:
        try:
            piece = connection.recv(min(left, _READ_BYTES))
        except TimeoutError as error:
            raise httpx2.ReadTimeout(str(error), request=request) from error
        except OSError as error:
            raise httpx2.ReadError(str(error), request=request) from error
        if not piece:
            raise httpx2.RemoteProtocolError(f"the connection was closed {left} bytes early", request=request)
        left -= len(piece)
        yield piece


def _shut(connection: socket.socket) -> None:
    """Wake whoever waits for bytes of a connection; to close it would not."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _plain_socket(response: httpx2.Response) -> socket.socket | None:
    """Return the socket of an answer, None where its bytes are not those of the body: TLS, or a version with frames."""
    stream = response.extensions.get("network_stream")
    if stream is None or response.http_version not in ("HTTP/1.0", "HTTP/1.1"):
        return None
    if stream.get_extra_info("ssl_object") is not None:
        return None
    found = stream.get_extra_info("socket")
    return found if isinstance(found, socket.socket) else None
