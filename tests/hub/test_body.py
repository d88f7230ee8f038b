"""The bytes of an answer: read from the socket where its length is known, with the errors of the parser."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from mecha.hub.body import pieces

BODY = bytes(range(256)) * 4000


@contextmanager
def answering(head: str, body: bytes, *, wait: bool = False) -> Iterator[str]:
    """A server that sends one answer, the body apart from the headers, and closes, or stays silent until the end."""
    over = threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
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
            thread.join()


def fetched(url: str, *, stall_s: float = 10.0) -> bytes:
    with httpx2.Client(timeout=stall_s) as client, client.stream("GET", url) as response:
        return b"".join(pieces(response))


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
    with answering(head, body) as url:
        assert fetched(url) == (b"hello" if "chunked" in head else body)


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
