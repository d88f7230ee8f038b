"""A real daemon on TCP, and those who would like to do it harm: each line of what docs/security.md says of it."""

import contextlib
import http.client
import json
import os
import re
import selectors
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from mecha.daemon.page import PAGE_FILES
from mecha.daemon.server import MOST_CONNECTIONS
from mecha.hub.bounded_socket import bearable
from tests.daemon.guarded import BEARER, TOKEN, Answering, raw
from tests.runtime.projects import TICKER, configure, make_project
from tests.runtime.waiting import wait_for

EXAMPLES = os.environ.get("MECHA_FUZZ_EXAMPLES", "")
SECRET = "what-lies-outside-of-the-project"
PATIENCE_S = 60.0

# As they stand in an address; those of a body are the same, decoded.
NAMES = (
    "..", "../../outside/secret", "%2e%2e", "..%2f..%2foutside%2fsecret", "%2e%2e%2f%2e%2e%2foutside",
    "..%5c..%5coutside", "%252e%252e%252foutside", "ticker%2f..%2f..%2f..%2foutside", "ticker/../ticker",
    "%2fetc%2fpasswd", "%2Foutside", "linked", "ticker%00", "ticker%0a", "%ff%fe", "~", "$HOME", "-rf", "*", "c%3a",
    "x" * 300, "ticker.", "%E2%80%AE", "..%c0%af..", ".hidden",
)  # fmt: skip

BODIES = {
    "nothing": b"",
    "half": b'{"model": "are',
    "a list": b"[]",
    "null": b"null",
    "a text": b'"model"',
    "no text": b"\xff\xfe\x00",
    "other types": b'{"model": {"a": 1}, "name": 3, "use_int8": [], "stream": "?"}',
    "half a letter": b'{"model": "\\ud800", "use_int8": "\\udfff"}',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"model":' * 100_000,
    "digits": b'{"model": ' + b"9" * 100_000 + b', "use_int8": 1e999}',
    "NaN": b'{"model": NaN, "use_int8": NaN}',
    "a long name": b'{"model": "' + b"x" * 900_000 + b'", "use_int8": 7}',
    "twice": b'{"model": "../x", "model": "../y"}',
}


@dataclass
class Device(Answering):
    root: Path = Path()
    outside: Path = Path()
    log: Path = Path()
    socket: Path = Path()
    operations: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A daemon with a node and a model folder that leads out; everything outside of it is the same in the end."""
    folder = tmp_path_factory.mktemp("device")
    root = make_project(folder / "project", ticker=TICKER)
    configure(root, "ticker", pause_s=0.05)
    outside = folder / "outside"
    for place in (outside / "model", root / "models" / "with-link"):
        place.mkdir(parents=True)
    for file in (outside / "secret", outside / "model" / "model.onnx", outside / "model" / "manifest.json"):
        file.write_text(SECRET)
    (root / "models" / "linked").symlink_to(outside / "model")
    for name in ("model.onnx", "manifest.json", "config.json", "labels.txt"):
        (root / "models" / "with-link" / name).symlink_to(outside / "secret")
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MECHA_", "XDG_"))}
    for name in ("home", "run", "cache"):
        (folder / name).mkdir(mode=0o700)
    environ |= {
        "HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "run"), "MECHA_CACHE_DIR": str(folder / "cache"),
        "HF_ENDPOINT": "http://127.0.0.1:9", "MECHA_LOG": "debug",
    }  # fmt: skip
    before = contents(outside)
    with process(root, environ, folder / "log", ("--listen", "127.0.0.1:0", "--token-file", str(token))) as port:
        device = Device(("127.0.0.1", port), root, outside, folder / "log")
        device.socket = next((folder / "run").rglob("daemon.sock"))
        described = device.ask("/openapi.json", **BEARER).json["paths"]
        device.operations = [
            (method.upper(), path, told) for path, methods in described.items() for method, told in methods.items()
        ]
        yield device
    assert contents(outside) == before


@contextlib.contextmanager
def process(root: Path, environ: dict[str, str], log: Path, options: tuple[str, ...]) -> Iterator[int]:
    """Run the daemon until the block ends; yields its port."""
    command = [sys.executable, "-m", "mecha", "daemon", "run", *options]
    with log.open("wb") as out, subprocess.Popen(command, cwd=root, env=environ, stdout=out, stderr=out) as daemon:
        try:
            wait_for(lambda: "answers at" in log.read_text() or daemon.poll() is not None, timeout_s=PATIENCE_S)
            found = re.search(r"answers at http://127\.0\.0\.1:(\d+)", log.read_text())
            assert found, log.read_text()
            yield int(found[1])
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(PATIENCE_S)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def filled(path: str, name: str = "ticker") -> str:
    return re.sub(r"{[a-z_]+}", name.replace("\\", r"\\"), path)


def still_well(device: Device) -> bool:
    return bool(device.ask("/healthz", **BEARER).json["alive"])


def test_every_operation_is_described(device: Device) -> None:
    described = {path for _, path, _ in device.operations}

    assert {f"/api/{verb}" for verb in ("pull", "tags", "ps", "show", "delete", "version")} <= described
    assert {"/api/nodes", "/api/nodes/{name}/config", "/api/detect", "/api/events"} <= described
    assert {"/healthz", "/readyz", "/metrics"} <= described
    assert not [path for _, path, _ in device.operations if path in PAGE_FILES]


@pytest.mark.parametrize(
    "shown", [{}, {"Authorization": "Bearer wrong-token-wrong-token"}, {"Authorization": f"Basic {TOKEN}"},
              {"Cookie": f"token={TOKEN}"}], ids=["none", "wrong", "basic", "cookie"],
)  # fmt: skip
def test_no_operation_answers_without_the_token(device: Device, shown: dict[str, str]) -> None:
    asked = [(method, filled(path)) for method, path, _ in device.operations]
    asked += [(method, "/api/status") for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "X")]

    assert {device.ask(path, method, **shown).status for method, path in asked} == {401}


def test_a_page_of_another_site_reaches_no_operation(device: Device) -> None:
    asked = [(method, filled(path)) for method, path, _ in device.operations]

    assert {device.ask(path, method, Host="evil.example", **BEARER).status for method, path in asked} == {421}
    assert {device.ask(path, method, Origin="http://evil.example", **BEARER).status for method, path in asked} == {403}


def test_the_token_stands_in_no_log_and_in_no_answer(device: Device) -> None:
    device.ask(f"/api/{TOKEN}?token={TOKEN}", Authorization=f"Bearer x{TOKEN}")
    asked = [
        device.ask(f"/api/nodes/{TOKEN}/config", **BEARER),
        device.ask(f"/api/nowhere?token={TOKEN}", Referer=f"http://x/{TOKEN}", **BEARER),
        device.ask("/api/show", "POST", json.dumps({"model": TOKEN}).encode(), **BEARER),
        device.ask("/api/pull", "POST", json.dumps({"model": TOKEN, "stream": False}).encode(), **BEARER),
        device.ask(f"/api/events?kinds=log&follow=false&x={TOKEN}", **BEARER),
        device.ask("/api/status", **BEARER),
        device.ask("/metrics", **BEARER),
    ]
    with device.connect() as opened:
        opened.sendall(f"{TOKEN} {TOKEN}\r\n\r\n".encode())
        opened.recv(65536)

    assert not [answer.body for answer in asked if TOKEN.encode() in answer.body]
    assert TOKEN not in device.log.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_an_address_leads_out(device: Device, name: str) -> None:
    asked = [(method, path) for method, path, _ in device.operations if "{" in path]
    answers = [device.ask(filled(path, name), method, b"{}", content_type="application/json", **BEARER)
               for method, path in asked]  # fmt: skip
    answers.append(device.ask(f"/api/detect?model={name}", "POST", b"x", **BEARER))

    assert {answer.status for answer in answers} <= {400, 404, 405, 409, 415, 422}, [a.body for a in answers]
    assert not [answer.body for answer in answers if SECRET.encode() in answer.body]


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "%ff" not in name and "%c0" not in name and name != "linked"]
)
def test_no_name_in_a_body_leads_out(device: Device, name: str) -> None:
    for told in {name, unquote(name)}:
        body = json.dumps({"model": told, "stream": False}).encode()
        asked = (("POST", "/api/show"), ("POST", "/api/pull"), ("DELETE", "/api/delete"))
        answers = [device.ask(path, method, body, content_type="application/json", **BEARER) for method, path in asked]

        assert {400, 404, 409, 502} >= {answer.status for answer in answers}, [a.body for a in answers]
        assert not [answer.body for answer in answers if SECRET.encode() in answer.body]


@pytest.mark.parametrize("what", BODIES)
def test_no_body_breaks_an_operation(device: Device, what: str) -> None:
    asked = [(method, path) for method, path, told in device.operations if "requestBody" in told]
    kinds = ("application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x")
    answers = [device.ask(filled(path), method, BODIES[what], content_type=kind, **BEARER)
               for method, path in asked for kind in kinds]  # fmt: skip

    assert {answer.status for answer in answers} <= {400, 404, 409, 413, 415, 422}, [a.body[:200] for a in answers]
    assert all(set(answer.json) >= {"error"} for answer in answers)
    assert still_well(device)


def test_no_body_is_larger_than_it_may_be(device: Device) -> None:
    for method, path, told in device.operations:
        if "requestBody" in told:
            head = f"{method} {filled(path)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            with device.connect() as opened:
                opened.sendall(f"{head}Expect: 100-continue\r\nContent-Length: {1 << 40}\r\n\r\n".encode())

                assert opened.recv(65536).startswith(b"HTTP/1.1 413"), path


def test_who_sends_slowly_keeps_nobody_else_from_being_answered(device: Device) -> None:
    with contextlib.ExitStack() as slow:
        for number in range(100):
            opened = slow.enter_context(device.connect())
            opened.sendall(b"POST /api/pull HTTP/1.1\r\nHost: loc" if number % 2 else b"")

        assert still_well(device)


def test_who_opens_connections_without_end_leaves_it_the_files_that_it_needs(device: Device) -> None:
    bearable(MOST_CONNECTIONS, 2)  # macOS gives a process 256 files unless it asks for more
    with contextlib.ExitStack() as held, selectors.DefaultSelector() as told:
        opened = [held.enter_context(device.connect()) for _ in range(MOST_CONNECTIONS + 40)]
        for one in opened:
            told.register(one, selectors.EVENT_READ)
        wait_for(lambda: len(told.select(0)) >= 40, timeout_s=PATIENCE_S)

        # Silent ones are closed too, but after ten seconds, and from the first one on.
        assert {key.fileobj for key, _ in told.select(0)} <= set(opened[MOST_CONNECTIONS - 10 :])
        assert Answering(str(device.socket)).ask("/healthz").json["alive"]
    wait_for(lambda: answers(device), timeout_s=PATIENCE_S)
    assert device.log.read_text().count(f"{MOST_CONNECTIONS} connections are open") == 1


def test_who_sends_what_is_no_request_does_not_fill_the_log(device: Device) -> None:
    said = "Invalid HTTP request received."
    before = device.log.read_text().count(said)
    for _ in range(20):
        assert raw(device, b"\x16\x03\x01 no request\r\n\r\n").startswith(b"HTTP/1.1 400")
    after = device.log.read_text().count(said)
    assert after > 0
    assert after - before < 10


def answers(device: Device) -> bool:
    """Whether it takes connections over TCP again."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return device.ask("/healthz", **BEARER).status == 200
    return False


def test_links_in_the_models_folder_lead_nowhere(device: Device) -> None:
    for name in ("linked", "with-link"):
        body = json.dumps({"model": name}).encode()
        shown = device.ask("/api/show", "POST", body, content_type="application/json", **BEARER)
        detected = device.ask(f"/api/detect?model={name}", "POST", b"x", **BEARER)

        assert not {shown.status, detected.status} & {200, 500}
        assert SECRET.encode() not in shown.body + detected.body
    assert SECRET.encode() not in device.ask("/api/tags", **BEARER).body + device.ask("/api/models", **BEARER).body


def test_removing_a_link_leaves_what_it_leads_to(device: Device) -> None:
    device.ask("/api/delete", "DELETE", b'{"model": "linked"}', content_type="application/json", **BEARER)
    device.ask("/api/delete", "DELETE", b'{"model": "with-link"}', content_type="application/json", **BEARER)

    assert (device.outside / "model" / "model.onnx").read_text() == SECRET
    assert (device.outside / "secret").read_text() == SECRET


def test_the_socket_is_for_its_owner_alone(device: Device) -> None:
    assert stat.S_IMODE(device.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(device.socket.parent.stat().st_mode) == 0o700
    assert Answering(str(device.socket)).ask("/api/version").status == 200


def test_what_was_refused_is_told_in_the_log(device: Device) -> None:
    device.ask("/api/status", Authorization="Bearer wrong-token-wrong-token")

    assert "a request from 127.0.0.1 was refused: a wrong token was shown" in device.log.read_text()
    assert "Traceback" not in device.log.read_text()


def test_the_api_does_what_its_description_says(device: Device) -> None:
    """`MECHA_FUZZ_EXAMPLES=100` tries more, and each bound of each value too."""
    command = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file", str(Path(__file__).with_name("schemathesis.toml")),
        "run", f"http://127.0.0.1:{device.port}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
        "--phases", "examples,coverage,fuzzing" if EXAMPLES else "examples,fuzzing", "--continue-on-failure",
        "--max-examples", EXAMPLES or "2", "--seed", "1", "--warnings", "off", "--suppress-health-check", "all",
        "--no-color",
    ]  # fmt: skip

    run = subprocess.run(command, cwd=device.root.parent, capture_output=True, text=True, timeout=3000, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "No issues found" in run.stdout or " passed" in run.stdout, run.stdout
    assert still_well(device)
