"""Memory that loading a model leaves behind, given back to the system."""

import sys


def give_back_memory() -> None:
    """Hand the freed parts of the heap back, where the C library can; elsewhere nothing happens.

    Reading and parsing a model frees several times its size, of which glibc keeps a part: 3 of 204 MB with both
    precisions of yolov8n loaded.
    """
    if sys.platform != "linux":
        return
    import ctypes

    # musl has no such function, nor such a habit.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
