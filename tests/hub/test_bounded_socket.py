"""A server that more connections come to than it can bear goes on, and says so once."""

import contextlib
import json
import logging
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mecha.hub.bounded_socket import BoundedSocket, bearable
from mecha.hub.mirror import running_mirror
from tests.runtime.waiting import wait_for

MOST = 3


@pytest.fixture
def listening() -> Iterator[BoundedSocket]:
    with BoundedSocket.around(socket.create_server(("127.0.0.1", 0)), MOST) as opened:
        yield opened


def connect(listening: socket.socket) -> socket.socket:
    return socket.create_connection(listening.getsockname()[:2], timeout=10)


def test_what_comes_when_it_is_full_is_closed_and_told_once(
    listening: BoundedSocket, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        clients = [connect(listening) for _ in range(MOST + 2)]
        taken = [listening.accept()[0] for _ in range(MOST)]
        for client in clients[MOST:]:
            with pytest.raises(ConnectionAbortedError):
                listening.accept()
            assert client.recv(1) == b""

    assert caplog.messages == ["3 connections are open: further connections are closed at once"]
    for opened in (*clients, *taken):
        opened.close()


def test_a_connection_that_ended_makes_room(listening: BoundedSocket, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2 * MOST):
        with connect(listening):
            listening.accept()[0].close()

    assert caplog.messages == []


def test_what_it_was_made_of_is_closed_with_it() -> None:
    before = socket.create_server(("127.0.0.1", 0))
    address = before.getsockname()[:2]
    BoundedSocket.around(before, MOST).close()

    assert before.fileno() == -1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=10)


def test_a_mirror_takes_no_more_than_it_can_bear(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecha.hub.mirror._MOST_CONNECTIONS", 10)
    with running_mirror(root) as mirror, contextlib.ExitStack() as held, selectors.DefaultSelector() as told:
        address = urlsplit(mirror.endpoint)
        for _ in range(15):
            client = held.enter_context(socket.create_connection((address.hostname, address.port), timeout=10))
            told.register(client, selectors.EVENT_READ)
        wait_for(lambda: len(told.select(0)) == 5, what="five are closed")


SERVER = """
import errno, json, os, resource, socket, sys
from mecha.hub.bounded_socket import BoundedSocket, bearable

with BoundedSocket.around(socket.create_server(("127.0.0.1", 0)), 1000) as listening:
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
    print(listening.getsockname()[1], flush=True)
    taken, outcomes = [], []
    for _ in range(40):
        try:
            taken.append(listening.accept()[0])
            outcomes.append("taken")
        except ConnectionAbortedError:
            outcomes.append("closed")
    for opened in taken:
        opened.close()
    with listening.accept()[0] as again:
        again.sendall(b"taken")
    print(json.dumps(outcomes), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="sets a limit of POSIX")
def test_a_process_that_has_no_files_left_closes_what_comes_and_takes_again_later() -> None:
    started = [sys.executable, "-c", SERVER]
    with (
        subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as held,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        held.callback(process.kill)  # it waits for clients as long as it has not had them all
        port = int(process.stdout.readline())
        for _ in range(40):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        with socket.create_connection(("127.0.0.1", port), timeout=20) as later:
            said = later.recv(5)
        outcomes = json.loads(process.stdout.readline())
        errors = process.stderr.read()

    taken = outcomes.count("taken")
    assert 0 < taken < 24
    assert outcomes == ["taken"] * taken + ["closed"] * (40 - taken)
    assert said == b"taken"
    assert errors == (
        "the system gives this process no more files (Too many open files): further connections are closed at once\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="a limit of POSIX")
@pytest.mark.parametrize(
    ("files", "highest", "asked", "connections"),
    [(1024, 1024, None, 320), (256, 256, None, 78), (256, 1 << 20, 4096, 320), (64, 64, None, 8), (64, 300, 300, 100)],
)
def test_connections_are_no_more_than_the_system_has_files_for(
    files: int, highest: int, asked: int | None, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, highest))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))

    assert bearable(320, 2) == connections
    assert set_to == ([] if asked is None else [(asked, highest)])
