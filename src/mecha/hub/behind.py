"""What a download does while the next bytes arrive: hashing those that came, and bringing them to the disk.

One after the other, on one thread, a fast line waited for both: 200 MB came at half the rate.
"""

import hashlib
import os
import threading
from queue import SimpleQueue

# Handing over less costs more than hashing it.
_PIECE_BYTES = 1 << 20
# So much is kept in memory at most, where hashing is slower than the line.
_AHEAD_PIECES = 8
# What a loss of power may cost of a download, where the disk keeps up with the line.
_SYNC_BYTES = 16 << 20


class RunningDigest:
    """The sha256 of bytes that come in order; hashed on a thread, which ends with `hexdigest`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._pieces: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD_PIECES)
        self._thread: threading.Thread | None = None

    def update(self, data: bytes) -> None:
        """Add bytes."""
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes < _PIECE_BYTES:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._hash, name="mecha-sha256", daemon=True)
            self._thread.start()
        self._room.acquire()
        self._pieces.put(self._held)
        self._held, self._held_bytes = [], 0

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, lower-case hex."""
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None
        for data in self._held:
            self._digest.update(data)
        self._held, self._held_bytes = [], 0
        return self._digest.hexdigest()

    def _hash(self) -> None:
        while (held := self._pieces.get()) is not None:
            for data in held:
                self._digest.update(data)
            self._room.release()


class EarlySync:
    """Brings a file to the disk while it is written, so that little is left to wait for in the end.

    Args:
        descriptor: of the file; open until `wait` has returned.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def wrote(self, size_bytes: int) -> None:
        """Account for bytes that were written."""
        self._waiting_bytes += size_bytes
        if self._waiting_bytes < _SYNC_BYTES or (self._thread is not None and self._thread.is_alive()):
            return
        self._waiting_bytes = 0
        self._thread = threading.Thread(target=self._sync, name="mecha-fsync", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for what is under way.

        Raises:
            OSError: the disk refused something; told once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            # The system tells it once, to this thread: whoever waits must learn of it.
            self._error = error
