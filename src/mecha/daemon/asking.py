"""Questions to a daemon that runs, over its socket, with nothing but the standard library: they are quick to ask."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from mecha.daemon.place import DaemonPlace
from mecha.errors import NetworkError

_TIMEOUT_S = 10.0


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; `sock` is there once something was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def asked_status(place: DaemonPlace) -> dict[str, Any] | None:
    """Return what `GET /api/status` of the daemon of a project says, None where no daemon runs.

    Raises:
        NetworkError: it runs and does not answer.
    """
    pid = place.pid
    if pid is None:
        return None
    connection = SocketConnection(place.address)
    try:
        connection.request("GET", "/api/status")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise ConnectionError(f"it says {answer.status}")
        return dict(json.loads(body))
    except (OSError, http.client.HTTPException, ValueError) as error:
        if place.pid is None:
            return None
        raise NetworkError(
            f"{place.address}: the daemon (process {pid}) does not answer: {error or type(error).__name__}",
            hint="Try again in a moment: it may be about to begin, or to end.",
        ) from error
    finally:
        connection.close()
