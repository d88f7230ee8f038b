"""Hubs and proxies: where the way ends is told apart, each with its remedy. All servers are real, and on loopback."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from mecha.doctor.finding import Finding
from mecha.doctor.hubs import clock_finding, hub_findings
from mecha.doctor.proxies import proxy_findings
from mecha.hub.mirror import running_mirror
from mecha.project import HubSettings, Project, Settings
from tests.hub.rough_server import Reply, always, rough_server

CATALOG = '[[models]]\nname = "mine"\nrepo = "owner/name"\nfilename = "model.onnx"\n'
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "model_catalog.toml").write_text(CATALOG)
    return tmp_path


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def found(root: Path, *endpoints: str, now: datetime | None = None, **environ: str) -> list[Finding]:
    settings = Settings(hub=HubSettings(endpoints=endpoints))
    project = Project(root=root, user_level=False, environment=None, settings=settings)
    return list(hub_findings(project, environ, now=lambda: now or datetime.now(UTC), timeout_s=5))


def the_one(root: Path, endpoint: str, **environ: str) -> Finding:
    (finding,) = found(root, endpoint, now=None, **environ)
    return finding


def test_a_mirror_that_has_the_file_is_well(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "served/owner/name/model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"model")
    with running_mirror(tmp_path / "served") as mirror:
        finding = the_one(root, mirror.endpoint)
        assert (finding.level, finding.what) == ("ok", f"{mirror.endpoint} answers")
        file.unlink()
        finding = the_one(root, mirror.endpoint)
        assert (finding.level, finding.what) == (
            "note",
            f"{mirror.endpoint} answers, and has no such file as owner/name",
        )


def test_a_token_that_is_missing_and_one_that_is_wrong_are_told_apart(root: Path, tmp_path: Path) -> None:
    (tmp_path / "served/owner/name").mkdir(parents=True)
    with running_mirror(tmp_path / "served", token="the right one") as mirror:
        without = the_one(root, mirror.endpoint)
        wrong = the_one(root, mirror.endpoint, HF_TOKEN="a wrong one")
    assert without.what == f"{mirror.endpoint} answered 401 Unauthorized to a request without a token"
    assert without.remedy == "Set HF_TOKEN to a token that this server knows."
    assert wrong.what == f"{mirror.endpoint} answered 401 Unauthorized to the token that was sent"
    assert wrong.why == "The token from HF_TOKEN is wrong, or has run out."


@pytest.mark.parametrize(
    ("reply", "what", "remedy"),
    [
        (
            Reply(403, {"x-error-message": "no"}),
            "{} answered 403 Forbidden to a request without a token",
            "Give the token the right to read",
        ),
        (
            Reply(403, {"content-type": "text/html"}, b"<html>blocked"),
            "{} answered 403 Forbidden to a request without a token, and not in the words of a Hub",
            "Have the server allowed",
        ),
        (
            Reply(200, {"content-type": "text/html; charset=utf-8"}, b"<html>welcome"),
            "{} answered 200 OK (text/html), and not as a Hub does",
            "Open any page in a browser on this network and sign in",
        ),
        (
            Reply(302, {"location": "http://login.example/portal?from=you"}),
            "{} answered 302 Found, a redirect to http://login.example",
            "Open any page in a browser on this network and sign in",
        ),
        (
            Reply(511, {"content-type": "text/html"}),
            "{} answered 511 Network Authentication Required (text/html), and not as a Hub does",
            "Open any page in a browser on this network and sign in",
        ),
        (Reply(407), "{}: the proxy answered 407 Proxy Authentication Required", "Check HTTPS_PROXY"),
        (Reply(429), "{} answered 429 Too Many Requests", "Wait some minutes"),
        (Reply(502), "{} answered 502 Bad Gateway", "Try again later."),
    ],
)
def test_whoever_answers_is_told_by_the_answer(root: Path, reply: Reply, what: str, remedy: str) -> None:
    with rough_server(always(reply)) as server:
        finding = the_one(root, server.endpoint)
    assert finding.level == "wrong"
    assert finding.what == what.format(server.endpoint)
    assert finding.remedy.startswith(remedy)


def test_a_hub_whose_storage_cannot_be_reached_is_told_apart_from_one_that_cannot(root: Path, closed_port: str) -> None:
    sent_on = Reply(302, {"location": f"{closed_port}/bytes?Signature=abc", "x-repo-commit": "1" * 40})
    with rough_server(always(sent_on)) as hub:
        finding = the_one(root, hub.endpoint)
    assert finding.what == (
        f"{hub.endpoint} answers, and sends on to {closed_port}: connection refused: nothing listens there"
    )
    assert finding.remedy.startswith("Allow that host too")


def test_a_token_is_not_shown_to_the_storage(root: Path) -> None:
    with rough_server(always(Reply(206, body=b"m"))) as storage:
        sent_on = Reply(302, {"location": f"{storage.endpoint}/bytes", "x-repo-commit": "1" * 40})
        with rough_server(always(sent_on)) as hub:
            finding = the_one(root, hub.endpoint, HF_TOKEN="secret one")
    assert finding.what == f"{hub.endpoint} answers, and so does {storage.endpoint}, where its files are"
    assert hub.seen[0].headers["authorization"] == "Bearer secret one"
    assert "authorization" not in storage.seen[0].headers


def test_a_port_at_which_nothing_listens(root: Path, closed_port: str) -> None:
    finding = the_one(root, closed_port)
    assert finding.what == f"{closed_port}: connection refused: nothing listens there"
    assert finding.remedy == "Check hub.endpoint and HF_ENDPOINT; where only a proxy leads out, set HTTPS_PROXY."


def test_http_where_https_is_expected_is_no_secure_connection(root: Path) -> None:
    with rough_server(always(Reply(200))) as server:
        finding = the_one(root, server.endpoint.replace("http:", "https:"))
    assert "no secure connection" in finding.what
    assert finding.remedy == "Check the scheme and port of hub.endpoint and HF_ENDPOINT, and HTTPS_PROXY."


def test_all_mirrors_are_asked_and_hf_endpoint_alone(root: Path, closed_port: str) -> None:
    with rough_server(always(Reply(502))) as server:
        both = found(root, closed_port, server.endpoint)
        alone = found(root, closed_port, HF_ENDPOINT=server.endpoint)
    assert [item.what.split()[0] for item in both] == [f"{closed_port}:", server.endpoint]
    assert [item.what.split()[0] for item in alone] == [server.endpoint]


def test_no_server_is_asked_without_a_network(root: Path) -> None:
    with rough_server(always(Reply(200))) as server:
        finding = the_one(root, server.endpoint, HF_HUB_OFFLINE="1")
    assert (finding.level, finding.what) == ("note", "not asked: the network is switched off")
    assert server.seen == []


def test_a_catalog_with_faults_does_not_keep_the_hub_from_being_asked(root: Path) -> None:
    (root / "model_catalog.toml").write_text("faulty")
    with rough_server(always(Reply(502))) as server:
        the_one(root, server.endpoint)
    assert server.seen[0].path.startswith("/deepghs/yolos/resolve/")


def test_a_clock_that_is_far_from_the_one_of_the_hub_is_wrong(root: Path) -> None:
    answer = {"date": format_datetime(NOW, usegmt=True), "x-repo-commit": "1" * 40}
    with rough_server(always(Reply(200, answer))) as server:
        well, clock = found(root, server.endpoint, now=NOW - timedelta(days=20000))
    assert well.level == "ok"
    assert clock.what == "the clock is 20000 days behind the one of the Hub"


@pytest.mark.parametrize(
    ("off", "what"),
    [
        (timedelta(minutes=4), None),
        (timedelta(minutes=-7), "the clock is 7 minutes behind the one of the Hub"),
        (timedelta(hours=5), "the clock is 5 hours ahead of the one of the Hub"),
    ],
)
def test_how_far_a_clock_may_be_off(off: timedelta, what: str | None) -> None:
    finding = clock_finding(NOW + off, NOW)
    assert (finding.what if finding else None) == what


def proxies(root: Path, *endpoints: str, **environ: str) -> list[tuple[str, str]]:
    settings = Settings(hub=HubSettings(endpoints=endpoints))
    project = Project(root=root, user_level=False, environment=None, settings=settings)
    return [(item.level, item.what) for item in proxy_findings(project, environ, timeout_s=5)]


def test_proxies_are_tried_and_shown_without_their_password(root: Path, closed_port: str) -> None:
    port = closed_port.rpartition(":")[2]
    assert proxies(root) == [("ok", "none is set")]
    assert proxies(root, https_proxy=f"http://me:secret@127.0.0.1:{port}") == [
        ("wrong", f"HTTPS_PROXY: http://127.0.0.1:{port}: connection refused")
    ]
    assert proxies(root, HTTP_PROXY="proxy.lan:8080") == [("wrong", "HTTP_PROXY is no address of a proxy")]
    with rough_server(always(Reply(200))) as server:
        assert proxies(root, ALL_PROXY=server.endpoint) == [("ok", f"ALL_PROXY: {server.endpoint} takes connections")]


def test_a_mirror_on_this_network_is_not_for_the_proxy(root: Path) -> None:
    with rough_server(always(Reply(200))) as server:
        asked = proxies(root, "http://192.168.1.10:8090", https_proxy=server.endpoint)
        spared = proxies(
            root, "http://192.168.1.10:8090", https_proxy=server.endpoint, no_proxy="192.168.1.10,localhost"
        )
    assert asked[1] == ("note", "http://192.168.1.10:8090 is on this network, and is asked through the proxy")
    assert len(spared) == 1
