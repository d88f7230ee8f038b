"""Shared memory that a process sends large payloads from: written once, and read where it lies by whoever listens.

Without it Zenoh would move the payload into memory of its own first and from there into shared memory of its own. Of a
1080p frame, which is bytes already, that is 2.7 ms of the publisher's CPU against 1.9 ms.
"""

from types import ModuleType
from typing import Any

LEAST_BYTES = 16 * 1024
"""Smaller payloads are cheaper through the socket."""


class SharedPool:
    """The shared memory of one process.

    Args:
        zenoh: the library.
        size_bytes: of the pool, 0 for none.
    """

    def __init__(self, zenoh: ModuleType, size_bytes: int) -> None:
        self._zenoh = zenoh
        self._size_bytes = size_bytes
        self._provider: Any = None

    def holding(self, payload: bytes) -> Any:  # noqa: ANN401 - a library without types
        """Return a payload in shared memory, None where it is too small, or there is no room: send it as it is then.

        Room that a subscriber has read out is used again; one that is kept from running does not keep it for ever.
        """
        if not LEAST_BYTES <= len(payload) <= self._size_bytes:
            return None
        shm = self._zenoh.shm
        try:
            if self._provider is None:
                self._provider = shm.ShmProvider.default_backend(self._size_bytes)
            buffer = self._provider.alloc(len(payload), shm.Defragment(shm.GarbageCollect()))
        except self._zenoh.ZError:
            if self._provider is None:
                # The system gives none, now or later.
                self._size_bytes = 0
            return None
        buffer[:] = payload
        return buffer
