"""Connections to the daemon: who is at the other end of the socket."""

import asyncio
import gc
import itertools
import os
import socket
import struct
from typing import Any

from mecha.hub.guarded_connection import GuardedConnection

_NOBODY = -1
_TAKEN = itertools.count(1)
_TIDIED_EVERY = 64


class OwnConnection(GuardedConnection):
    """A connection of this user, or root; over TCP, of whoever has the token.

    What asyncio leaves of a TLS connection that ends within its handshake is a quarter of a megabyte in a few objects
    that refer to each other: too few for Python to look for them soon.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **keywords)
        if self.config.is_ssl and next(_TAKEN) % _TIDIED_EVERY == 0:
            gc.collect()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless it comes from another user of this machine."""
        super().connection_made(transport)
        if not may_connect(transport.get_extra_info("socket")):
            self.logger.warning("a connection of another user to the socket was refused")
            transport.abort()


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
