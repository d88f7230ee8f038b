"""A mirror that is short of something: of files, of a readable disk, of the body that a client promised."""

import contextlib
import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from mecha.errors import DiskError
from mecha.hub.gateway import Gateway
from mecha.hub.mirror import RunningMirror, create_mirror, running_mirror
from mecha.hub.mirror_app import mirror_app
from mecha.hub.mirror_files import ServedFolder, Snapshot
from mecha.hub.source import RepoType
from tests.hub.asked_mirror import FILE, ask, write

ROOT = Path(__file__).parents[2]
INFO = "/api/models/owner/name"
PATHS = "/api/models/owner/name/paths-info/main"


@pytest.fixture
def short_of_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What every folder answers with while the process may open no more."""

    def scandir(_folder: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("mecha.hub.mirror_files.os.scandir", scandir)
    yield
    monkeypatch.undo()


@contextlib.contextmanager
def begun(mirror: RunningMirror) -> Iterator[socket.socket]:
    """A question of which six bytes came."""
    parts = urlsplit(mirror.endpoint)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as client:
        client.sendall(f"POST {PATHS} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\npaths=".encode())
        yield client


def test_a_body_that_does_not_come_is_not_waited_for(mirror: RunningMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecha.hub.mirror_app._BODY_S", 0.1)
    with begun(mirror) as client:
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert answer.endswith(b'{"error":"The body had not come after 0.1 s"}')


def test_a_client_that_leaves_within_its_body_is_no_fault(
    mirror: RunningMirror, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        with begun(mirror) as client:
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        while not mirror.requests:
            ask(mirror, FILE, "HEAD")

    assert caplog.text == ""


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", INFO), ("GET", f"{INFO}/tree/main"), ("POST", PATHS), ("GET", FILE)],
    ids=["info", "tree", "paths", "file"],
)
@pytest.mark.parametrize("gateway", [None, cast("Gateway", object())], ids=["mirror", "gateway"])
@pytest.mark.usefixtures("short_of_files")
def test_without_files_a_repo_is_neither_empty_nor_gone(
    root: Path, method: str, path: str, gateway: Gateway | None
) -> None:
    answer = TestClient(mirror_app(ServedFolder(root), token=None, gateway=gateway)).request(method, path)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json() == {"error": "The files of this mirror cannot be read now"}


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_what_cannot_be_read_now_makes_no_other_repo_of_the_rest(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    folder = ServedFolder(root)
    broken = root / "owner/name/sub/model.onnx"
    with monkeypatch.context() as patch:

        def unread(location: Path, _size: int) -> tuple[str, None]:
            if location == broken:
                raise OSError(code, os.strerror(code))
            return "0" * 64, None

        patch.setattr("mecha.hub.mirror_files._hash", unread)
        with pytest.raises(DiskError) as raised:
            folder.snapshot("model", "owner/name")
    snapshot = folder.snapshot("model", "owner/name")

    assert str(raised.value) == f"{broken}: cannot be read: {os.strerror(code)}"
    assert raised.value.hint == (
        "Mend the disk, or raise the limit on open files; what has a name that starts with a dot is not read."
    )
    assert snapshot is not None
    assert snapshot.find("sub/model.onnx") is not None


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP])
def test_what_is_not_there_or_not_permitted_is_not_served(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def unread(_location: Path, _size: int) -> tuple[str, None]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("mecha.hub.mirror_files._hash", unread)
    snapshot = ServedFolder(root).snapshot("model", "owner/name")

    assert snapshot is not None
    assert snapshot.files == ()


def test_a_file_that_cannot_be_opened_now_is_not_said_to_be_replaced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = ServedFolder(root).snapshot("model", "owner/name")
    assert snapshot is not None
    file = snapshot.find("sub/model.onnx")
    assert file is not None

    def no_file(*_args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "open", no_file)
    with pytest.raises(DiskError):
        file.open()


def test_a_record_that_cannot_be_read_now_makes_no_other_commit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Callable[..., IO[Any]] = Path.open

    def no_record(path: Path, *arguments: Any, **keywords: Any) -> IO[Any]:
        if path.suffix == ".metadata":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(path, *arguments, **keywords)

    folder = ServedFolder(root)
    before = folder.snapshot("model", "owner/name")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", no_record)
        with pytest.raises(DiskError) as raised:
            folder.snapshot("model", "owner/name")

    assert str(raised.value) == f"{root / 'owner/name'}: cannot be read: {os.strerror(errno.EMFILE)}"
    assert folder.snapshot("model", "owner/name") == before


def test_a_card_that_cannot_be_read_now_is_not_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(_path: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    app = create_mirror(root)
    monkeypatch.setattr("mecha.hub.mirror_api.metadata_load", no_file)

    assert TestClient(app).get(INFO).status_code == 503


LOADED_LATE = """
import sys
from pathlib import Path
from mecha.hub import mirror, mirror_app
from tests.hub.asked_mirror import ask
if sys.argv[2] == "gateway":
    made = mirror_app.mirror_app
    mirror.mirror_app = lambda served, *, token, gateway: made(served, token=token, gateway=object())
with mirror.running_mirror(Path(sys.argv[1])) as running:
    before = set(sys.modules)
    ask(running, "/api/models/owner/name")
    ask(running, "/owner/name/resolve/main/README.md")
    ask(running, "/own%20er/name/resolve/main/README.md")
    ask(running, "/api/models/owner/name/tree/main")
    ask(running, "/api/models/owner/name/paths-info/main", "POST", "paths=README.md")
    print([seen.status for seen in running.requests])
    print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("mode", ["mirror", "gateway"])
def test_no_request_loads_what_there_may_be_no_file_for(tmp_path: Path, mode: str) -> None:
    write(tmp_path / "owner/name/README.md", b"---\nlicense: mit\n---\n")
    command = [sys.executable, "-c", LOADED_LATE, str(tmp_path), mode]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=ROOT)

    assert done.stdout.splitlines() == ["[200, 200, 404, 200, 200]", ""]


def test_a_question_is_no_longer_than_a_client_asks(mirror: RunningMirror) -> None:
    thousands = "&".join(f"paths=folder/of/photos/{number:08}.jpg" for number in range(5000))

    assert ask(mirror, PATHS, "POST", thousands).status == 200
    assert ask(mirror, PATHS, "POST", "paths=a&" * 32_769).status == 413


def test_a_repo_that_cannot_be_read_at_the_start_keeps_no_other_from_being_served(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(root / "owner" / "bad" / "model.onnx", b"model")
    snapshot = ServedFolder.snapshot

    def failing(served: ServedFolder, repo_type: RepoType, repo_id: str) -> Snapshot | None:
        if repo_id == "owner/bad":
            raise DiskError("owner/bad/model.onnx: cannot be read: Input/output error")
        return snapshot(served, repo_type, repo_id)

    monkeypatch.setattr(ServedFolder, "snapshot", failing)
    with running_mirror(root) as mirror:
        assert ask(mirror, FILE, "HEAD").status == 200
        assert ask(mirror, "/owner/bad/resolve/main/model.onnx", "HEAD").status == 503

    assert caplog.messages[0] == (
        "owner/bad/model.onnx: cannot be read: Input/output error; owner/bad is answered 503 as long as that is so"
    )
