"""Uvicorn in a process that goes on when the server has ended."""

import asyncio
import socket

import uvicorn


class ThoroughServer(uvicorn.Server):
    """A server that leaves no connection open when it ends.

    Uvicorn's own leaves those whose answer was not taken within `timeout_graceful_shutdown` to the garbage collector.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, then end what is left."""
        await super().shutdown(sockets=sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # sockets are closed in the next turn of the loop
