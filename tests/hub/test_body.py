"""The bytes of an answer: read from the socket where its length is known, with the errors of the parser."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx2
import pytest

from mecha.hub.body import pieces
from tests.threads import left_threads

# Long enough to be received ahead.
BODY = bytes(range(256)) * 40_000


@contextmanager
def answering(head: str, body: bytes, *, wait: bool = False) -> Iterator[str]:
    """A server that sends one answer, the body apart from the headers, and closes, or stays silent until the end."""
    over = threading.Event()
    accepted: list[socket.socket] = []

    def answer() -> None:
        connection, _ = listener.accept()
        accepted.append(connection)
        with connection, suppress(OSError):  # who was asked to send may be left in the middle
            connection.recv(65536)
            connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body[:100])
            connection.sendall(body[100:])
            if wait:
                over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            over.set()
            for connection in accepted:
                # It may wait for room that a client who has left will never make.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join()


def fetched(url: str, *, stall_s: float = 10.0, ahead: bool = True) -> bytes:
    with (
        httpx2.Client(timeout=stall_s) as client,
        client.stream("GET", url) as response,
        closing(pieces(response, ahead=ahead)) as chunks,
    ):
        return b"".join(chunks)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (f"Content-Length: {len(BODY)}", BODY),
        ("Content-Length: 0", b""),
        ("Connection: close", BODY),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["length", "nothing", "no length", "chunked"],
)
def test_every_form_of_a_body_comes_whole(head: str, body: bytes) -> None:
    for ahead in (True, False):
        with answering(head, body) as url:
            assert fetched(url, ahead=ahead) == (b"hello" if "chunked" in head else body)


def test_a_body_that_goes_beyond_its_length_is_cut_there() -> None:
    with answering("Content-Length: 1000", BODY) as url:
        assert fetched(url) == BODY[:1000]


def test_a_body_that_ends_early_is_told() -> None:
    with answering(f"Content-Length: {len(BODY) + 10}", BODY) as url, pytest.raises(httpx2.RemoteProtocolError):
        fetched(url)


def test_a_server_that_goes_silent_is_told() -> None:
    head = f"Content-Length: {len(BODY) + 10}"
    with answering(head, BODY, wait=True) as url, pytest.raises(httpx2.ReadTimeout):
        fetched(url, stall_s=0.3)


def test_what_had_come_before_a_server_goes_silent_is_given_first() -> None:
    came: list[bytes] = []
    with (
        answering(f"Content-Length: {len(BODY) + 10}", BODY, wait=True) as url,
        httpx2.Client(timeout=0.3) as client,
        client.stream("GET", url) as response,
        closing(pieces(response)) as chunks,
        pytest.raises(httpx2.ReadTimeout),
    ):
        came.extend(chunks)  # keeps what came before the error
    assert b"".join(came) == BODY


@pytest.mark.parametrize("taken", [1, 3])
def test_who_leaves_a_body_in_the_middle_waits_for_nobody(taken: int) -> None:
    before = set(threading.enumerate())
    # The server sends a part of what it promised and then nothing, and nobody may wait so long.
    with answering(f"Content-Length: {2 * len(BODY)}", BODY, wait=True) as url:
        with (
            httpx2.Client(timeout=3600) as client,
            client.stream("GET", url) as response,
            closing(pieces(response)) as chunks,
        ):
            for _ in range(taken):
                assert next(chunks)
        assert "mecha-receive" not in left_threads(before)
