"""Waiting for what other threads and processes do, never longer than a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], *, timeout_s: float = 10.0, what: str = "") -> T:
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what or condition} did not come true in {timeout_s} s: last {value!r}"
        time.sleep(0.005)
