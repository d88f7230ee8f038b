"""A mirror as it serves: where it listens, what it counts, who leaves or stops in the middle."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mecha.errors import BusyError, NetworkError, NotFoundError
from mecha.hub.mirror import RunningMirror, running_mirror, serve_mirror
from tests.hub.asked_mirror import FILE, MODEL, ask


def test_served_bytes_and_requests_are_counted(mirror: RunningMirror) -> None:
    ask(mirror, FILE, "HEAD")
    ask(mirror, FILE, range="bytes=-100")

    assert mirror.bytes_served == 100
    assert [(seen.method, seen.path, seen.status, seen.body_bytes) for seen in mirror.requests] == [
        ("HEAD", FILE, 200, 0),
        ("GET", FILE, 206, 100),
    ]


def test_a_client_that_leaves_does_not_keep_the_file_being_read(root: Path) -> None:
    size = 64_000_000
    with (root / "owner/name/big.onnx").open("wb") as big:
        big.truncate(size)
    with running_mirror(root) as mirror:
        with socket.create_connection(urlsplit(mirror.endpoint).netloc.split(":")) as client:  # type: ignore[arg-type]
            client.sendall(b"GET /owner/name/resolve/main/big.onnx HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(1000)
        ask(mirror, FILE, "HEAD")

    assert mirror.bytes_served < size


def test_a_client_that_takes_nothing_is_left_when_the_mirror_ends(root: Path) -> None:
    with (root / "owner/name/big.onnx").open("wb") as big:
        big.truncate(64_000_000)
    with socket.socket() as client:
        client.settimeout(10)
        with running_mirror(root) as mirror:
            parts = urlsplit(mirror.endpoint)
            client.connect((parts.hostname, parts.port))
            client.sendall(b"GET /owner/name/resolve/main/big.onnx HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(1000)
        # The other end of an open connection would let this wait until nothing more comes.
        with contextlib.suppress(ConnectionError):
            while client.recv(1 << 20):
                pass


def test_a_file_that_shrinks_while_it_is_sent_is_not_padded(root: Path) -> None:
    size = 64_000_000
    with (root / "owner/name/big.onnx").open("wb") as big:
        big.truncate(size)
    with running_mirror(root) as mirror:
        connection = http.client.HTTPConnection(urlsplit(mirror.endpoint).netloc, timeout=10)
        connection.request("GET", "/owner/name/resolve/main/big.onnx")
        response = connection.getresponse()
        response.read(1000)
        os.truncate(root / "owner/name/big.onnx", 2000)
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        connection.close()


def test_the_mirror_ends_with_its_block(root: Path) -> None:
    with running_mirror(root) as mirror:
        ask(mirror, FILE, "HEAD")
    with pytest.raises(ConnectionRefusedError):
        ask(mirror, FILE, "HEAD")


def test_a_client_that_asks_for_nothing_is_let_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecha.hub.mirror._Connection.headers_s", 0.2)
    with running_mirror(root) as mirror:
        port = urlsplit(mirror.endpoint).port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
            assert silent.recv(1) == b""


def test_a_folder_that_is_not_there_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as raised:
        serve_mirror(tmp_path / "nowhere")

    assert str(raised.value) == f"{tmp_path / 'nowhere'}: no such folder; expected one that holds owner/name/file"


def test_a_port_that_is_taken_is_said(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BusyError) as raised:
            serve_mirror(root, port=port)

    assert str(raised.value) == f"127.0.0.1:{port}: another program listens there already"


def test_an_address_of_another_machine_is_said(root: Path) -> None:
    with pytest.raises(NetworkError) as raised:
        serve_mirror(root, host="192.0.2.1")

    assert str(raised.value) == "192.0.2.1:0: cannot listen there: Cannot assign requested address"


SERVER = """
import sys
from pathlib import Path
from mecha.hub.mirror import serve_mirror
serve_mirror(Path(sys.argv[1]), host=sys.argv[2], on_ready=lambda endpoint: print(endpoint, flush=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_process_serves_until_it_is_asked_to_stop(root: Path, host: str) -> None:
    command = [sys.executable, "-c", SERVER, str(root), host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        port = urlsplit(endpoint).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", FILE)
        body = connection.getresponse().read()
        connection.close()
        process.terminate()
        process.wait(30)

    assert body == MODEL
    assert process.returncode == -signal.SIGTERM
    assert urlsplit(endpoint).hostname != "0.0.0.0"
