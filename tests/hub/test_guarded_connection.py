"""Connections that a client leaves in the middle: nothing of them stays, and nothing is written of them."""

import asyncio
import gc
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from mecha.daemon.connection import OwnConnection
from mecha.hub.guarded_connection import taken
from tests.certificate import self_signed
from tests.daemon.guarded import answering, counting, rest_of
from tests.runtime.waiting import wait_for

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
SIZE = 60_000
LARGER = 300_000


class Known(OwnConnection):
    """Is known as long as it exists."""

    unread_s = 0.2
    made: ClassVar[int] = 0
    ended: ClassVar[int] = 0
    alive: ClassVar[WeakSet[OwnConnection]] = WeakSet()

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        Known.alive.add(self)
        Known.made += 1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        Known.ended += 1


def test_little_is_left_of_connections_that_end_within_the_handshake(tmp_path: Path) -> None:
    gc.disable()  # Python would find them by itself, but not soon
    try:
        with answering(counting, connection=Known, tls=self_signed(tmp_path)) as served:
            before = Known.made
            for taken_of_all in range(1, 193):
                served.connect().close()
                if taken_of_all % 32 == 0:
                    wait_for(partial(lambda made: Known.made == made, before + taken_of_all))
            left = len(Known.alive)
    finally:
        gc.enable()

    assert left < 128


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with less than asyncio waits with, and more than the system takes here."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % SIZE)]})
    await send({"type": "http.response.body", "body": b"x" * SIZE})


async def larger(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with much more than asyncio waits with."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGER)]})
    await send({"type": "http.response.body", "body": b"x" * LARGER})


class Watched(Known):
    """Looks whether the client goes on each time that a test lets it."""

    unread_s = 0.01
    may_look = threading.Event()
    looks: ClassVar[int] = 0

    def _look(self, before: int) -> None:
        if not self.may_look.is_set():
            self.loop.call_later(self.unread_s, self._look, before)
            return
        self.may_look.clear()
        super()._look(before)
        Watched.looks += 1


@contextmanager
def asked_for_all(
    app: ASGIApp, *, connection: type[Known] = Known, unix: Path | None = None
) -> Iterator[socket.socket]:
    """A client that has asked, and of whose answer the system takes little at a time."""
    family = socket.AF_INET if unix is None else socket.AF_UNIX
    with answering(app, connection=connection, unix=unix) as served, socket.socket(family) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        opened.settimeout(10)
        opened.connect(served.address)
        opened.sendall(REQUEST + b"Connection: close\r\n\r\n")
        yield opened


def test_the_last_bytes_of_a_closed_connection_are_not_kept_for_who_takes_nothing() -> None:
    before = Known.ended
    with asked_for_all(large) as opened:
        wait_for(lambda: Known.ended > before, what="it is cut off")

        assert len(rest_of(opened)) < SIZE


def test_who_takes_them_gets_them_all() -> None:
    with asked_for_all(large) as opened:
        assert rest_of(opened).endswith(b"x" * SIZE)


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix socket"])
def test_a_client_that_takes_its_answer_slowly_and_steadily_gets_all_of_it(tmp_path: Path, unix: bool) -> None:
    path = tmp_path / "socket" if unix else None
    Watched.may_look.clear()
    with asked_for_all(larger, connection=Watched, unix=path) as opened:
        came = 0
        for looks in range(Watched.looks + 1, Watched.looks + 9):
            # More than the client's own system can have had of it before.
            for _ in range(16):
                came += len(opened.recv(1024))
            Watched.may_look.set()
            wait_for(partial(lambda wanted: Watched.looks == wanted, looks), what="it is looked at")
        came += len(rest_of(opened))

    assert came > LARGER


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_what_the_other_end_takes_is_counted_before_anything_else_waits_less() -> None:
    class Sending(asyncio.Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return served if name == "socket" else default

        def get_write_buffer_size(self) -> int:
            return 7

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(listening.getsockname())
        served, _ = listening.accept()
        with served:
            served.setblocking(False)
            served.send(b"x" * 200_000)
            wait_for(lambda: taken(Sending()) > 0, what="the client's system has its part")
            before = taken(Sending())
            for _ in range(8):
                client.recv(1024)
            wait_for(lambda: taken(Sending()) > before, what="what was read is counted")


def test_a_client_that_stops_in_the_middle_of_its_answer_is_let_go() -> None:
    before = Known.ended
    with asked_for_all(larger) as opened:
        assert opened.recv(1024)
        wait_for(lambda: Known.ended > before, what="it is cut off")

        assert len(rest_of(opened)) < LARGER


def test_a_bad_chunk_after_the_answer_has_begun_ends_the_connection_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with answering(early, connection=Known) as served, served.connect() as opened, caplog.at_level(logging.ERROR):
        opened.sendall(REQUEST.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n")
        assert opened.recv(1000).startswith(b"HTTP/1.1 401")
        opened.sendall(b"zz\r\n")

        rest_of(opened)
        assert [record for record in caplog.records if record.name == "asyncio"] == []
