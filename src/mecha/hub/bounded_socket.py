"""A listening socket that takes no more connections than its process can bear."""

import contextlib
import errno
import logging
import os
import socket
from typing import Self
from weakref import WeakSet

_LOG = logging.getLogger(__name__)


class BoundedSocket(socket.socket):
    """Closes what comes while `most` connections are open, instead of taking it until the process has no files left.

    Without it, whoever opens connections and sends nothing takes from all threads the means to open a file, and each
    further one is a trace in the log. Where the system's own limit is reached first, one is closed in the same way.

    On Windows asyncio accepts connections past this, and they are not counted.
    """

    most: int
    _full = False
    _open: WeakSet[socket.socket]
    _spare: int | None = None

    @classmethod
    def around(cls, listening: socket.socket, most: int) -> Self:
        """Take over a socket; the one that was given is closed for its owner."""
        bounded = cls(listening.family, listening.type, listening.proto, fileno=listening.detach())
        bounded.most = most
        bounded._open = WeakSet()
        bounded._keep_spare()
        return bounded

    # What asyncio calls for every connection.
    def accept(self) -> tuple[socket.socket, object]:
        """Take a connection.

        Raises:
            ConnectionAbortedError: there was one, and it was closed.
            BlockingIOError: there is none.
        """
        try:
            accepted, address = super().accept()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            self._tell(f"the system gives this process no more files ({os.strerror(error.errno)})")
            self._close_one()
            raise ConnectionAbortedError from error
        is_open = sum(1 for known in self._open if known.fileno() >= 0)
        if is_open >= self.most:
            accepted.close()
            self._tell(f"{self.most} connections are open")
            raise ConnectionAbortedError
        if is_open < self.most // 2:
            self._full = False
        self._open.add(accepted)
        return accepted, address

    def close(self) -> None:
        """Close it; connections stay."""
        super().close()
        self._drop_spare()

    def _tell(self, why: str) -> None:
        if not self._full:
            _LOG.warning("%s: further connections are closed at once", why)
        self._full = True

    def _close_one(self) -> None:
        """Close the connection that waits: with nobody to take it, the event loop would be woken for it for ever."""
        self._drop_spare()
        with contextlib.suppress(OSError):
            super().accept()[0].close()
        self._keep_spare()

    def _keep_spare(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
