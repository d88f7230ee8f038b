"""Connections to the daemon: who is at the other end of the socket, and how long one may keep us waiting."""

import asyncio
import os
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 10.0
"""A request's line and headers must have come after this time, and another one may take as long."""
UNREAD_S = 30.0
"""An answer must go on: a client that has taken nothing for this long is gone."""
_CLOSE_S = 5.0
_NOBODY = -1


class GuardedConnection(H11Protocol):
    """One connection. Uvicorn's own waits for headers, and for who does not read, without end."""

    headers_s = HEADERS_S
    unread_s = UNREAD_S

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **keywords)
        self._headers_due: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless it comes from another user of this machine."""
        super().connection_made(transport)
        if not may_connect(transport.get_extra_info("socket")):
            self.logger.warning("a connection of another user to the socket was refused")
            transport.abort()
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._expect_nothing()
        self._has_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came; between two requests the time begins with the first byte of the second one."""
        before = self.cycle
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not before:
            self._expect_nothing()
        elif (before is None or before.response_complete) and self._headers_due is None:
            self._expect_headers()

    def pause_writing(self) -> None:
        """The client does not read: it has some time to begin again."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.unread_s, self._cut_off)

    def resume_writing(self) -> None:
        """The client has read on."""
        self._has_read()
        super().resume_writing()

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

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.headers_s, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _has_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def may_connect(opened: Any) -> bool:  # noqa: ANN401 - a socket, or asyncio's wrapper of one
    """Tell whether who is at the other end of a Unix socket is this user, or root; true for other sockets.

    The file has mode 0600; this holds where somebody changed that. Systems that do not tell have the file alone.
    """
    if opened is None or opened.family != getattr(socket, "AF_UNIX", _NOBODY) or not hasattr(socket, "SO_PEERCRED"):
        return True
    return peer_uid(opened) in {os.geteuid(), 0}


def peer_uid(opened: Any) -> int:  # noqa: ANN401 - a socket, or asyncio's wrapper of one
    """Return the user at the other end of a Unix socket, as the system knows it."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
