"""Shared memory that a process sends large payloads from: written once, and read where it lies by whoever listens.

Without it Zenoh would move the payload into memory of its own first and from there into shared memory of its own. Of a
1080p frame, which is bytes already, that is 2.7 ms of the publisher's CPU against 1.9 ms.
"""

import time
from threading import Lock
from types import ModuleType
from typing import Any

LEAST_BYTES = 16 * 1024
"""Smaller payloads are cheaper through the socket."""
_MARGIN_BYTES = 4096
"""Of a pool that nothing lies in, this much cannot be had as one piece."""
_LOOK_S = 0.002


class SharedPool:
    """The shared memory of one process. May be used from several threads.

    Args:
        zenoh: the library.
        size_bytes: of the pool, 0 for none.
    """

    def __init__(self, zenoh: ModuleType, size_bytes: int) -> None:
        self._zenoh = zenoh
        self._size_bytes = size_bytes
        self._lock = Lock()
        self._provider: Any = None

    def holding(self, payload: bytes) -> Any:  # noqa: ANN401 - a library without types
        """Return a payload in shared memory, None where it is too small, or there is no room: send it as it is then.

        Room that a subscriber has read out is used again; one that is kept from running does not keep it for ever.
        """
        if not LEAST_BYTES <= len(payload) <= self._size_bytes:
            return None
        with self._lock:
            try:
                if self._provider is None:
                    self._provider = self._zenoh.shm.ShmProvider.default_backend(self._size_bytes)
                buffer = self._room(len(payload))
            except self._zenoh.ZError:
                if self._provider is None:
                    # The system gives none, now or later.
                    self._size_bytes = 0
                return None
        buffer[:] = payload
        return buffer

    def read_out(self, within_s: float) -> bool:
        """Wait until all that was sent is read, for `within_s` at most: the memory goes with this process.

        Returns:
            whether it is.
        """
        deadline_s = time.monotonic() + within_s
        while not self._is_free():
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_LOOK_S)
        return True

    def _is_free(self) -> bool:
        with self._lock:
            if self._provider is None:
                return True
            try:
                self._room(self._size_bytes - _MARGIN_BYTES)
            except self._zenoh.ZError:
                return False
            return True

    def _room(self, size: int) -> Any:  # noqa: ANN401 - a library without types
        # First what was used last: it may still be in the caches. Zenoh's policies join free pieces only where one of
        # them is large enough alone, so a camera that changes to larger frames would find no room again.
        self._provider.garbage_collect()
        try:
            return self._provider.alloc(size)
        except self._zenoh.ZError:
            self._provider.defragment()
            return self._provider.alloc(size)
