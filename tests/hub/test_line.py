"""Certificates are loaded for https alone, and then all of them count."""

import ssl
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from mecha.errors import ConfigError, NetworkError
from mecha.hub.line import Line
from tests.certificate import self_signed
from tests.hub.fetched import CONTENT, SIZE, fetch, remote_file
from tests.hub.rough_server import Move, Reply, always, honest, rough_server

TIMEOUT = httpx2.Timeout(10.0)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for loopback that signs itself, its key in the same file."""
    file, key = self_signed(tmp_path)
    file.write_bytes(file.read_bytes() + key.read_bytes())
    return file


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def redirect(location: str) -> Move:
    return always(Reply(302, {"Location": location}))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_plain_http_loads_no_certificates(partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(partial.with_name("missing.pem")))
    with rough_server(honest(CONTENT)) as server:
        assert fetch(remote_file(server), partial).size_bytes == SIZE


def test_a_redirect_to_https_is_not_followed_to_a_server_that_nobody_vouches_for(
    partial: Path, certificate: Path
) -> None:
    with (
        rough_server(honest(CONTENT), tls=tls(certificate)) as storage,
        rough_server(redirect(f"{storage.endpoint}/file")) as hub,
        pytest.raises(NetworkError, match="its certificate is not trusted"),
    ):
        fetch(remote_file(hub), partial)
    assert storage.seen == []
    assert not partial.exists()


def test_a_redirect_to_https_goes_by_the_certificates_of_the_environment(
    partial: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        rough_server(honest(CONTENT), tls=tls(certificate)) as storage,
        rough_server(redirect(f"{storage.endpoint}/file")) as hub,
    ):
        fetch(remote_file(hub), partial)
    assert partial.read_bytes() == CONTENT
    assert [seen.path for seen in storage.seen] == ["/file"]


def test_a_certificate_of_another_host_is_refused(
    partial: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        rough_server(honest(CONTENT), tls=tls(certificate)) as server,
        pytest.raises(NetworkError, match="not trusted"),
    ):
        fetch(replace(remote_file(server), url=f"https://localhost:{server.server_port}/model.onnx"), partial)
    assert server.seen == []


def test_certificates_that_cannot_be_read_are_told_when_https_is_opened(
    partial: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(partial.with_name("missing.pem")))
    with (
        rough_server(honest(CONTENT), tls=tls(certificate)) as storage,
        rough_server(redirect(f"{storage.endpoint}/file")) as hub,
        pytest.raises(ConfigError) as raised,
    ):
        fetch(remote_file(hub), partial)
    assert str(raised.value) == "SSL_CERT_FILE or SSL_CERT_DIR: no such file or directory"
    assert raised.value.hint == "Name certificates that exist and can be read, or unset the variable."


def test_the_client_of_plain_http_trusts_nobody_should_it_ever_open_https(certificate: Path) -> None:
    with (
        rough_server(honest(CONTENT), tls=tls(certificate)) as server,
        Line(TIMEOUT) as line,
        pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        line._plain.get(f"{server.endpoint}/file")


def test_with_a_proxy_certificates_are_loaded_for_it(monkeypatch: pytest.MonkeyPatch, partial: Path) -> None:
    monkeypatch.setenv("HTTP_PROXY", "https://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(partial.with_name("missing.pem")))
    with Line(TIMEOUT) as line, pytest.raises(ConfigError, match="SSL_CERT_FILE or SSL_CERT_DIR"):
        line.opened("http://192.0.2.1/file", {})


def test_a_proxy_is_asked_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with rough_server(always(Reply(200, {}, b"from the proxy"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        with Line(TIMEOUT) as line:
            answer = line.opened("http://192.0.2.1/file", {})
            assert answer.read() == b"from the proxy"
            answer.close()
    assert [seen.path for seen in proxy.seen] == ["http://192.0.2.1/file"]
