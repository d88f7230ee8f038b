"""An application that answers from a thread of the tests, and leaves nothing behind."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from mecha.hub.thorough_server import ThoroughServer
from tests.runtime.waiting import wait_for

PATIENCE_S = 30.0


@contextmanager
def in_thread(config: uvicorn.Config, opened: socket.socket) -> Iterator[None]:
    """Serve on a socket that listens until the block ends."""
    server = ThoroughServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, timeout_s=PATIENCE_S)
        yield
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
