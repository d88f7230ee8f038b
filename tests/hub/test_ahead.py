"""Receiving ahead of who takes: in order, within a bound, and ended with the taker."""

import threading
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest

from mecha.hub.ahead import read_ahead
from tests.threads import left_threads


def test_pieces_come_in_order_and_then_the_error() -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(200):
            yield bytes([number])
        raise httpx2.ReadError("gone")

    came: list[bytes] = []
    with pytest.raises(httpx2.ReadError, match="gone"):
        came.extend(read_ahead(pieces(), lambda: None))  # `extend` keeps what came before the error
    assert came == [bytes([number]) for number in range(200)]


def test_an_empty_piece_is_no_end() -> None:
    assert list(read_ahead(iter([b"", b"1", b""]), lambda: None)) == [b"", b"1", b""]


def test_nothing_is_received_beyond_the_bound() -> None:
    given, full = 0, threading.Event()

    def pieces() -> Iterator[bytes]:
        nonlocal given
        for _ in range(1000):
            given += 1
            if given == 33:
                full.set()
            yield b"piece"

    ahead = read_ahead(pieces(), lambda: None)
    with closing(ahead):
        assert next(ahead) == b"piece"
        assert full.wait(30)
        assert given <= 35
    assert given <= 36


def test_who_stops_taking_makes_it_stop_receiving() -> None:
    woken, before = threading.Event(), set(threading.enumerate())

    def pieces() -> Iterator[bytes]:
        yield b"first"
        woken.wait(30)
        raise httpx2.ReadError("woken")

    ahead = read_ahead(pieces(), woken.set)
    assert next(ahead) == b"first"
    ahead.close()
    assert "mecha-receive" not in left_threads(before)
