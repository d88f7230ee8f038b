"""A listening socket that takes no more connections than its process can bear."""

import contextlib
import errno
import logging
import os
import socket
import time
from typing import Self
from weakref import WeakSet

_LOG = logging.getLogger(__name__)
_TELL_EVERY_S = 60.0
_FILES = 4096
"""As many a process asks the system for, where it may."""
_RESERVE = 100
"""Files that are for what a process does besides talking."""
_LEAST = 8


def bearable(most: int, files_of_one: int) -> int:
    """Return how many connections a listener may have: `most`, or as many as the system leaves this process files for.

    The limit of the process is raised where the system allows that.

    Args:
        files_of_one: files that are taken for each connection, those of as many on another listener counted.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return most
    files, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if highest == resource.RLIM_INFINITY else min(_FILES, highest)
    if files != resource.RLIM_INFINITY and files < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))
            files = wanted
    if files == resource.RLIM_INFINITY:
        return most
    return max(_LEAST, min(most, (files - _RESERVE) // files_of_one))


class BoundedSocket(socket.socket):
    """Closes what comes while `most` connections are open, instead of taking it until the process has no files left.

    Without it, whoever opens connections and sends nothing takes from all threads the means to open a file, and each
    further one is a trace in the log. Where the system's own limit is reached first, one is closed in the same way.

    On Windows asyncio accepts connections past this, and they are not counted.

    Attributes:
        most: as many may be open.
    """

    most: int
    _told_s = -_TELL_EVERY_S
    _open: WeakSet[socket.socket]
    _spare: int | None = None

    @property
    def polite(self) -> int:
        """From so many on a request is told so, with 503, before it comes to closing."""
        return self.most * 4 // 5

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
        if sum(1 for known in self._open if known.fileno() >= 0) >= self.most:
            accepted.close()
            self._tell(f"{self.most} connections are open")
            raise ConnectionAbortedError
        self._open.add(accepted)
        return accepted, address

    def close(self) -> None:
        """Close it; connections stay."""
        super().close()
        self._drop_spare()

    def _tell(self, why: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            _LOG.warning("%s: further connections are closed at once", why)

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
