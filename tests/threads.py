"""Threads of this process: what other tests have left may still be about to end."""

import threading


def left_threads(before: set[threading.Thread]) -> list[str]:
    """Return the names of threads that are here now and were not before."""
    return [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
