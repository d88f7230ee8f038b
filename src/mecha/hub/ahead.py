"""Receiving while what came before is written: on a thread, a few megabytes ahead.

A process that waits for its disk does not empty the socket, and a server that finds it full waits too.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue

import httpx2

# So many pieces came at most and are not taken yet, where writing is slower than the line.
_PIECES_AHEAD = 32


def read_ahead(pieces: Iterator[bytes], abandon: Callable[[], None]) -> Generator[bytes]:
    """Give what an iterator gives, and its error after that; the thread has ended when this is exhausted or closed.

    Args:
        pieces: used on the thread alone.
        abandon: called in any case; makes `pieces` end soon, whatever it waits for.

    Raises:
        httpx2.HTTPError: raised by `pieces`.
    """
    came: SimpleQueue[bytes | httpx2.HTTPError | None] = SimpleQueue()
    room, abandoned = threading.Semaphore(_PIECES_AHEAD), threading.Event()

    def receive() -> None:
        end = None
        try:
            for piece in pieces:
                came.put(piece)
                room.acquire()
                if abandoned.is_set():
                    return
        except httpx2.HTTPError as error:
            end = error
        finally:
            came.put(end)

    thread = threading.Thread(target=receive, name="mecha-receive", daemon=True)
    thread.start()
    try:
        while isinstance(piece := came.get(), bytes):
            yield piece
            room.release()
        if piece is not None:
            raise piece
    finally:
        abandoned.set()
        room.release()
        abandon()
        thread.join()
