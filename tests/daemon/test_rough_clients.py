"""Clients that send too much, too little or too slowly, or do not read: what comes of it over TCP."""

import asyncio
import contextlib
import select
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from mecha.daemon.access import BODY_BYTES, BODY_BYTES_OF, Access
from tests.certificate import self_signed
from tests.daemon.guarded import BEARER, TOKEN, Answering, Impatient, answering, counting, raw, rest_of


@pytest.fixture(scope="module")
def impatient(access: Access) -> Iterator[Answering]:
    """One that waits for half a second where others wait for half a minute."""
    with answering(replace(access, body_s=0.5).guard(counting), connection=Impatient) as served:
        yield served


@pytest.mark.parametrize("path", ["/api/%00", "/api/a%0d%0aSet-Cookie:x", "/api/%ff", "/api/%7f"])
def test_a_path_that_is_no_text_is_refused(tcp: Answering, path: str) -> None:
    answer = tcp.ask(path, **BEARER)

    assert answer.status == 404
    assert answer.json["error"] == "the path holds control characters, or bytes that are not UTF-8"


@pytest.mark.parametrize("path", ["/api/pull", "/api/detect"])
def test_a_body_that_says_it_is_too_large_is_not_read(tcp: Answering, path: str) -> None:
    most = BODY_BYTES_OF.get(path, BODY_BYTES)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\n"

    answer = raw(tcp, f"{head}Content-Length: {most + 1}\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 413")
    assert f"the body is too large; expected {most} bytes at most".encode() in answer
    assert b"100 Continue" not in answer


def test_a_body_that_was_sent_all_the_same_still_gets_its_answer(tcp: Answering) -> None:
    assert tcp.ask("/api/pull", "POST", b"x" * (4 << 20), **BEARER).status == 413


def test_a_body_of_unknown_length_is_counted(tcp: Answering) -> None:
    head = (
        f"POST /api/pull HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    answer = raw(tcp, head.encode() + chunk * 20 + b"0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_body_of_the_largest_size_is_taken(tcp: Answering) -> None:
    assert tcp.ask("/api/pull", "POST", b"x" * BODY_BYTES, **BEARER).body == str(BODY_BYTES).encode()


@pytest.mark.parametrize("length", ["-1", "1_0", "0x10", "1, 2", "99999999999999999999999999"])
def test_a_length_that_is_none_is_refused(tcp: Answering, length: str) -> None:
    request = (
        f"POST /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
    )

    assert raw(tcp, request.encode())[9:12] in {b"400", b"413"}


@pytest.mark.parametrize(
    "request_text",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"GET /\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1 << 18) + b"\r\n\r\n"],
    ids=["tls", "hosts", "lengths", "0.9", "long"],
)  # fmt: skip
def test_what_is_no_request_is_told_so_and_no_more(tcp: Answering, request_text: bytes) -> None:
    assert raw(tcp, request_text)[9:12] in {b"400", b""}


def test_a_body_that_does_not_come_is_not_waited_for(impatient: Answering) -> None:
    head = f"POST /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10\r\n\r\n"

    answer = raw(impatient, head.encode() + b"12")

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body did not come in time" in answer


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: "])
def test_headers_that_do_not_come_are_not_waited_for(impatient: Answering, sent: bytes) -> None:
    assert raw(impatient, sent) == b""


def test_one_byte_now_and_then_does_not_hold_a_connection(impatient: Answering) -> None:
    def drip(opened: socket.socket) -> None:
        deadline = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                opened.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() < deadline

    assert raw(impatient, b"GET / HTTP/1.1\r\nX: ", then=drip) == b""


def test_nor_does_it_after_a_request_that_was_answered(impatient: Answering) -> None:
    with impatient.connect() as opened:
        opened.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT")
        opened.recv(1)
        deadline = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                opened.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() < deadline


def test_two_requests_one_after_the_other_share_a_connection(tcp: Answering) -> None:
    with tcp.connect() as opened:
        for _ in range(3):
            opened.sendall(b"GET / HTTP/1.1\r\n")
            opened.sendall(b"Host: localhost\r\n\r\n")
            got = b""
            while not got.endswith(b"\r\n\r\n0"):
                got += opened.recv(65536)
            assert got.startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="nothing here tells that the other end has gone")
def test_who_does_not_read_is_cut_off(impatient: Answering) -> None:
    with impatient.connect() as opened:
        opened.sendall(f"GET /long HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        gone = select.poll()
        gone.register(opened, select.POLLRDHUP | select.POLLERR)

        assert gone.poll(20_000)
        assert len(rest_of(opened)) < 64 << 20


def test_an_answer_before_the_body_was_read_is_given(tcp: Answering) -> None:
    assert tcp.ask("/early", "POST", b"x" * 1000, **BEARER).body == b"0"


def test_who_ends_over_tls_before_the_body_was_taken_is_let_go(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with (
        answering(late, tls=(cert, key)) as served,
        trusting.wrap_socket(served.connect(), server_hostname="127.0.0.1") as opened,
    ):
        opened.sendall(request + b"x" * 100_000)
        opened.shutdown(socket.SHUT_WR)  # without a word of TLS, as of a program that ends

        assert rest_of(opened)  # all until the other end closes


async def late(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers when all has come, without having taken it."""
    await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b"late"})
