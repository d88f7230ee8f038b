"""Who may ask the daemon: tokens, names and other sites over TCP, and users over the socket; by hand."""

import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mecha.daemon.access import SECURITY_HEADERS, Access, known_hosts
from mecha.daemon.connection import may_connect, peer_uid
from tests.certificate import self_signed
from tests.daemon.guarded import BEARER, TOKEN, Answering, Impatient, answering, counting, raw

KEY = "It is in the file that the daemon was started with, or in its MECHA_TOKEN."


@pytest.fixture
def by_socket(access: Access, tmp_path: Path) -> Iterator[Answering]:
    with answering(access.guard(counting), unix=tmp_path / "s") as served:
        yield served


def test_the_token_opens_it(tcp: Answering) -> None:
    answer = tcp.ask("/api/nodes", **BEARER)

    assert (answer.status, answer.body) == (200, b"0")


def test_without_a_token_it_says_that_one_is_needed(tcp: Answering) -> None:
    answer = tcp.ask("/api/nodes")

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="mecha"'
    assert answer.json == {
        "error": "a token is needed: send it as `Authorization: Bearer TOKEN`", "hint": KEY, "kind": ""
    }  # fmt: skip


@pytest.mark.parametrize(
    "shown",
    ["Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer ",
     f"Bearer {TOKEN} {TOKEN}", "Bearer \xff\xfe"],
)  # fmt: skip
def test_a_wrong_token_is_told_as_one(tcp: Answering, shown: str) -> None:
    answer = tcp.ask("/api/nodes", Authorization=shown)

    assert (answer.status, answer.json["error"]) == (401, "the token is wrong")
    assert TOKEN not in answer.body.decode()


def test_of_two_tokens_the_first_counts(tcp: Answering) -> None:
    request = (
        f"GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer no\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )

    assert raw(tcp, request.encode(), then=lambda opened: opened.shutdown(socket.SHUT_WR)).startswith(b"HTTP/1.1 401")


def test_a_token_in_the_address_is_none(tcp: Answering) -> None:
    assert tcp.ask(f"/api/nodes?token={TOKEN}&access_token={TOKEN}").status == 401


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/api", "/nowhere", "//", "/x/../"]
)
def test_only_the_page_itself_needs_no_token(tcp: Answering, path: str) -> None:
    assert tcp.ask(path).status == 401
    assert tcp.ask("/").status == tcp.ask("/app.js").status == tcp.ask("/", "HEAD").status == 200
    assert tcp.ask("/", "POST", b"x").status == tcp.ask("/", "OPTIONS").status == 401


def test_where_no_token_was_set_nothing_answers_over_tcp() -> None:
    with answering(Access().guard(counting)) as served:
        assert served.ask("/api/nodes", **BEARER).status == 401


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.7:8765", "[::1]:8765", "localhost", "LocalHost:1", "robot.local"]
)
def test_addresses_and_its_own_names_are_its_own(tcp: Answering, host: str) -> None:
    assert tcp.ask("/api", Host=host, **BEARER).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "user@localhost", "localhost/x",
             "[::1", "localhost:no", "x\\localhost"],
)  # fmt: skip
def test_a_name_of_somebody_else_that_leads_here_is_refused(tcp: Answering, host: str) -> None:
    answer = tcp.ask("/", Host=host)

    assert answer.status == 421
    assert answer.json == {
        "error": f'Host: got "{host}"; expected an address of this device, or one of its names: localhost, robot.local',
        "hint": "Ask it by its address, or start it with the name in MECHA_HOSTS.",
        "kind": "",
    }


def test_a_request_without_a_host_is_refused(tcp: Answering) -> None:
    assert raw(tcp, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421")
    assert raw(tcp, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "file://", "http://localhost.evil", "http://[x",
               "http://127.0.0.1/x", "http://u@127.0.0.1"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_another_site_gets_nothing_even_with_the_token(tcp: Answering, origin: str, method: str) -> None:
    answer = tcp.ask("/api/pull", method, Origin=origin, **BEARER)

    assert answer.status == 403
    assert answer.json["error"] == f'Origin: got "{origin}"; expected none, or the page of this daemon'
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_its_own_page_may_ask(tcp: Answering) -> None:
    host = f"127.0.0.1:{tcp.port}"

    assert tcp.ask("/api", Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin", **BEARER).status == 200
    assert tcp.ask("/api", Host="robot.local", Origin="https://robot.local", **BEARER).status == 200


def test_a_link_of_another_site_opens_the_page_and_nothing_else(tcp: Answering) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}

    assert tcp.ask("/", **link).status == 200
    assert tcp.ask("/api/nodes", **link, **BEARER).status == 403
    assert tcp.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert tcp.ask("/app.js", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="no-cors").status == 403


@pytest.mark.parametrize("host", ["anything", "localhost", "%2Frun%2Fmecha", "127.0.0.1:8765", "robot.local"])
def test_over_the_socket_no_token_is_needed_and_any_word_is_a_host(by_socket: Answering, host: str) -> None:
    answer = by_socket.ask("/api/nodes", Host=host)

    assert answer.status == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_over_the_socket_nobody_needs_to_say_whom_they_ask(by_socket: Answering) -> None:
    assert raw(by_socket, b"GET /api HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_behind_a_tunnel_to_the_socket_its_own_page_may_ask(by_socket: Answering) -> None:
    own = {"Host": "127.0.0.1:8765", "Origin": "http://127.0.0.1:8765", "Sec_Fetch_Site": "same-origin"}

    assert by_socket.ask("/api/pull", "POST", b"{}", **own).status == 200


def test_behind_a_tunnel_to_the_socket_no_other_site_may_ask(by_socket: Answering) -> None:
    tunnel = {"Host": "127.0.0.1:8765"}

    assert by_socket.ask("/api/pull", "POST", b"{}", Origin="https://evil.example", **tunnel).status == 403
    assert by_socket.ask("/api/status", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", **tunnel).status == 403
    assert by_socket.ask("/api/status", Host="evil.example").status == 421
    assert by_socket.ask("/api/status", Host="evil.example:8765", Origin="http://evil.example:8765").status == 421


def test_every_answer_has_the_headers(tcp: Answering) -> None:
    for answer in (tcp.ask("/", Host="evil"), tcp.ask("/api"), tcp.ask("/api", **BEARER)):
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "unsafe" not in SECURITY_HEADERS["Content-Security-Policy"]


def test_the_log_hears_of_attacks_once_and_never_of_the_token(access: Access) -> None:
    told: list[str] = []
    with answering(replace(access, tell=told.append).guard(counting)) as served:
        for _ in range(3):
            served.ask("/api", Authorization="Bearer wrong-and-secret")
            served.ask("/api", Host="evil.example")
            served.ask("/api", Origin="http://evil.example")
            served.ask("/api")

    assert told == [
        "a request from 127.0.0.1 was refused: a wrong token was shown",
        "a request from 127.0.0.1 was refused: it was asked under a name that is not its own",
        "a request from 127.0.0.1 was refused: the page of another site sent it",
    ]


def test_over_tls_it_is_the_same(access: Access, tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    with answering(access.guard(counting), tls=(cert, key), connection=Impatient) as served:

        def ask(**headers: str) -> tuple[int, bytes]:
            connection = http.client.HTTPSConnection("127.0.0.1", served.port, timeout=20, context=trusting)
            with contextlib.closing(connection):
                connection.request("POST", "/api", b"x" * 100_000, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()

        assert ask(**BEARER) == (200, b"100000")
        assert ask()[0] == 401
        host = f"127.0.0.1:{served.port}"
        assert ask(Origin=f"https://{host}", **BEARER)[0] == 200
        assert ask(Origin=f"http://{host}", **BEARER)[0] == 403
        assert raw(served, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        with trusting.wrap_socket(served.connect(), server_hostname="127.0.0.1") as silent:
            assert silent.recv(1) == b""


def test_the_names_of_a_daemon_are_those_of_its_machine_and_those_that_are_given() -> None:
    own = socket.gethostname().lower()

    names = known_hosts("0.0.0.0", {"MECHA_HOSTS": "Robot.example, ,10.0.0.1"})

    assert names == {"localhost", own, f"{own.partition('.')[0]}.local", "robot.example"}
    assert "robot" in known_hosts("Robot", {})


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell who is at the other end")
def test_the_system_tells_who_is_at_the_other_end_of_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()
        assert may_connect(ours)
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        assert may_connect(ours) == (os.getuid() == 0)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell who is at the other end")
def test_another_user_gets_no_answer_over_the_socket(by_socket: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecha.daemon.connection.peer_uid", lambda opened: os.geteuid() + 1)

    assert raw(by_socket, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
