"""Connections of a server on a network: how long one may keep us waiting."""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 10.0
"""A request's line and headers must have come after this time, and another one may take as long."""
UNREAD_S = 30.0
"""An answer must go on: a client that has taken nothing for this long is gone, however little it takes else."""
_CLOSE_S = 5.0
_BEFORE_ANSWER = frozenset({"IDLE", "SEND_RESPONSE"})
"""States of h11, as its documentation names them, in which an answer can begin."""
# Where Linux has `tcpi_bytes_acked` in its `struct tcp_info` (linux/tcp.h), a number of 64 bits.
_ACKED_AT = 120
_ACKED = struct.Struct("=Q")


class GuardedConnection(H11Protocol):
    """One connection. Uvicorn's own waits for headers, and for who does not read, without end."""

    headers_s = HEADERS_S
    unread_s = UNREAD_S

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **keywords)
        self._headers_due: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(cast("asyncio.Transport", _EndingTransport(transport, self._expect_reading)))
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._expect_nothing()
        self._expect_no_reading()
        super().connection_lost(exc)
        # Uvicorn keeps the timer of a client that reset, and so all that was the connection's, for seconds.
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Take in what came; between two requests the time begins with the first byte of the second one.

        What comes after the last answer is dropped.
        """
        if self.transport.is_closing():
            return
        before = self.cycle
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not before:
            self._expect_nothing()
        elif (before is None or before.response_complete) and self._headers_due is None:
            self._expect_headers()

    def pause_writing(self) -> None:
        """More waits for the client than it takes at once: it may be slow, and has to go on."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """The client has taken most of what waited; what is left of a closed connection it has to take, too."""
        if not self.transport.is_closing():
            self._expect_no_reading()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Tell a client that what it sent is no request, unless an answer to it has begun."""
        if repr(self.conn.our_state) in _BEFORE_ANSWER:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing of an upgrade that is not made: programs ask for one with each request."""

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that nobody uses, though its last answer was never read."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(_CLOSE_S, self._cut_off)

    def _cut_off(self) -> None:
        """End the connection; the system does not keep for the client what it has not taken."""
        opened = self.transport.get_extra_info("socket")
        if opened is not None and opened.fileno() >= 0:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _expect_reading(self) -> None:
        """Look from time to time whether the client still takes what waits for it."""
        if self._unread is None and self.transport.get_write_buffer_size():
            self._unread = self.loop.call_later(self.unread_s, self._look, taken(self.transport))

    def _look(self, before: int) -> None:
        self._unread = None
        if taken(self.transport) == before:
            self._cut_off()
        else:
            self._expect_reading()

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.headers_s, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _expect_no_reading(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class _EndingTransport:
    """A transport whose `close` ends it, over TLS too.

    asyncio's TLS waits for ever for the end of what it was told not to read, and cannot be aborted once it was closed
    twice; uvicorn does both. A client that goes before its body was taken would hold its connection until the server
    ends.
    """

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self._transport = transport
        self._on_close = on_close

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)

    def close(self) -> None:
        """Take what still comes, to its end, and close once."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.close()
            self._on_close()


def taken(transport: asyncio.Transport) -> int:
    """Return a number that changes when the other end takes something of what waits for it.

    On Linux the system counts the bytes; elsewhere, and of a Unix socket, what waits in this process has to do.
    """
    opened = transport.get_extra_info("socket")
    if sys.platform == "linux" and opened is not None and opened.family != socket.AF_UNIX:
        # A connection that is over has no such number, and an old kernel gives less.
        with contextlib.suppress(OSError, struct.error):
            told = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_AT + _ACKED.size)
            return int(_ACKED.unpack_from(told, _ACKED_AT)[0])
    return transport.get_write_buffer_size()
