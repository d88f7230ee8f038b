"""What the mirror answers, asked by hand over real connections."""

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from mecha.errors import BusyError, NetworkError, NotFoundError
from mecha.hub.mirror import RunningMirror, running_mirror, serve_mirror

MODEL = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(MODEL).hexdigest()
FILE = "/owner/name/resolve/main/sub/model.onnx"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    write(root / "owner/name/sub/model.onnx", MODEL)
    write(root / "owner/name/README.md", b"---\nlicense: apache-2.0\n---\n# A model\n")
    write(root / "owner/name/empty.txt", b"")
    write(root / "owner/name/größe 1#.txt", b"umlaut")
    write(root / "owner/name/.env", b"secret")
    write(root / "datasets/owner/photos/1.jpg", b"jpg")
    write(tmp_path / "secret.txt", b"secret")
    return root


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def mirror(root: Path) -> Iterator[RunningMirror]:
    with running_mirror(root) as mirror:
        yield mirror


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(mirror: RunningMirror, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
    """Ask without any tidying of the path; `if_range="x"` sends `If-Range: x`."""
    connection = http.client.HTTPConnection(urlsplit(mirror.endpoint).netloc, timeout=10)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=names)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def test_a_file_comes_with_the_headers_of_the_hub(mirror: RunningMirror) -> None:
    answer = ask(mirror, FILE)

    assert (answer.status, answer.body) == (200, MODEL)
    assert answer.headers["ETag"] == f'"{SHA256}"'
    assert answer.headers["X-Linked-Etag"] == f'"{SHA256}"'
    assert answer.headers["X-Linked-Size"] == answer.headers["Content-Length"] == str(len(MODEL))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert len(answer.headers["X-Repo-Commit"]) == 40


def test_head_says_the_same_without_the_body(mirror: RunningMirror) -> None:
    head, get = ask(mirror, FILE, "HEAD"), ask(mirror, FILE)

    assert head.body == b""
    ignored = {"date"}
    assert {name: value for name, value in head.headers.items() if name not in ignored} == {
        name: value for name, value in get.headers.items() if name not in ignored
    }


def test_a_range_is_sent_alone(mirror: RunningMirror) -> None:
    answer = ask(mirror, FILE, range="bytes=1000-1999")

    assert (answer.status, answer.body) == (206, MODEL[1000:2000])
    assert answer.headers["Content-Range"] == f"bytes 1000-1999/{len(MODEL)}"


def test_a_range_outside_is_416(mirror: RunningMirror) -> None:
    answer = ask(mirror, FILE, range=f"bytes={len(MODEL)}-")

    assert (answer.status, answer.body) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{len(MODEL)}"


def test_a_range_of_another_version_gets_the_whole(mirror: RunningMirror) -> None:
    answer = ask(mirror, FILE, range="bytes=1000-", if_range='"old"')

    assert (answer.status, answer.body) == (200, MODEL)


def test_what_the_client_has_is_not_sent(mirror: RunningMirror) -> None:
    answer = ask(mirror, FILE, if_none_match=f'"{SHA256}"')

    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == f'"{SHA256}"'


def test_an_empty_file_is_a_file(mirror: RunningMirror) -> None:
    answer = ask(mirror, "/owner/name/resolve/main/empty.txt")

    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


def test_any_name_can_be_asked_for(mirror: RunningMirror) -> None:
    answer = ask(mirror, f"/owner/name/resolve/main/{quote('größe 1#.txt')}")

    assert answer.body == b"umlaut"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe%201%23.txt"


def test_a_file_has_an_address_at_its_commit(mirror: RunningMirror) -> None:
    commit = ask(mirror, FILE, "HEAD").headers["X-Repo-Commit"]

    assert ask(mirror, FILE.replace("main", commit)).body == MODEL


def test_a_changed_folder_has_another_commit_and_no_longer_the_old_one(mirror: RunningMirror, root: Path) -> None:
    before = ask(mirror, FILE, "HEAD").headers["X-Repo-Commit"]
    write(root / "owner/name/sub/model.onnx", b"new")
    after = ask(mirror, FILE)

    assert after.body == b"new"
    assert after.headers["X-Repo-Commit"] != before
    assert ask(mirror, FILE.replace("main", before)).headers["X-Error-Code"] == "RevisionNotFound"


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/owner/other/resolve/main/x", "RepoNotFound", "Repository not found"),
        ("/owner/name/resolve/v2/sub/model.onnx", "RevisionNotFound", "Invalid rev id: v2"),
        ("/owner/name/resolve/main/x.onnx", "EntryNotFound", "x.onnx does not exist on 'main'"),
        ("/owner/name/resolve/main/sub", "EntryNotFound", "sub does not exist on 'main'"),
        ("/owner/name/resolve/main/a%00b", "EntryNotFound", "a\\x00b does not exist on 'main'"),
        ("/owner/name/resolve/main/%C3%BC", "EntryNotFound", "\\xfc does not exist on 'main'"),
        ("/datasets/owner/name/resolve/main/x", "RepoNotFound", "Repository not found"),
        ("/api/models/owner/other", "RepoNotFound", "Repository not found"),
        ("/api/models/owner/name/revision/v2", "RevisionNotFound", "Invalid rev id: v2"),
        ("/api/models/owner/name/tree/main/nowhere", "EntryNotFound", "nowhere does not exist on 'main'"),
    ],
)
def test_what_is_not_there_is_refused_as_the_hub_does(
    mirror: RunningMirror, path: str, code: str, message: str
) -> None:
    answer = ask(mirror, path)

    assert answer.status == 404
    assert (answer.headers["X-Error-Code"], answer.headers["X-Error-Message"]) == (code, message)


@pytest.mark.parametrize(
    "path",
    [
        "/owner/name/resolve/main/.env",
        "/owner/name/resolve/main/../../../../secret.txt",
        "/owner/name/resolve/main/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "/owner/name/resolve/main/..%2f..%2f..%2fsecret.txt",
        "/owner/name/resolve/main/sub/../.env",
        "/owner/name/resolve/main//etc/passwd",
        "/owner/name/resolve/main/%00",
        "/owner/name/resolve/main/..%5c..%5c..%5csecret.txt",
        "/owner/../owner/name/resolve/main/sub/model.onnx",
        "/../served/resolve/main/owner/name/README.md",
        "/%2e%2e/%2e%2e/resolve/main/secret.txt",
        "/owner/%2e%2e/resolve/main/secret.txt",
        "//etc/resolve/main/passwd",
        "/",
        "/secret.txt",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_outside_the_repos_is_served(mirror: RunningMirror, path: str) -> None:
    answer = ask(mirror, path)

    assert answer.status == 404
    assert b"secret" not in answer.body.replace(b"secret.txt", b"")


def test_a_repo_is_described(mirror: RunningMirror) -> None:
    info = ask(mirror, "/api/models/owner/name").json

    assert (info["id"], info["author"], info["private"], info["gated"]) == ("owner/name", "owner", False, False)
    assert info["cardData"] == {"license": "apache-2.0"}
    assert [sibling["rfilename"] for sibling in info["siblings"]] == [
        "README.md",
        "empty.txt",
        "größe 1#.txt",
        "sub/model.onnx",
    ]


@pytest.mark.parametrize(
    "card",
    [
        b"# no front matter",
        b"---\nlicense: [a\n---\n",
        b"---\n- a list\n---\n",
        b"---\nlicense: 7\n---\n",
        b"\xff\xfe---",
        b"---\n" + b"#" * 2_000_000 + b"\nlicense: mit\n---\n",
    ],
    ids=["none", "broken YAML", "a list", "a number", "no text", "too long"],
)
def test_a_card_without_a_readable_licence_states_none(mirror: RunningMirror, root: Path, card: bytes) -> None:
    write(root / "owner/name/README.md", card)

    assert "cardData" not in ask(mirror, "/api/models/owner/name").json


def test_blobs_adds_sizes_and_digests(mirror: RunningMirror) -> None:
    siblings = ask(mirror, "/api/models/owner/name?blobs=True").json["siblings"]

    assert siblings[-1]["size"] == len(MODEL)
    assert siblings[-1]["lfs"] == {"sha256": SHA256, "size": len(MODEL), "pointerSize": 132}


def test_a_tree_is_listed_level_by_level_or_whole(mirror: RunningMirror) -> None:
    def names(path: str) -> list[tuple[str, str]]:
        return [(entry["type"], entry["path"]) for entry in ask(mirror, f"/api/models/owner/name/tree/main{path}").json]

    top = [("file", "README.md"), ("file", "empty.txt"), ("file", "größe 1#.txt"), ("directory", "sub")]
    assert names("") == top
    assert names("?recursive=True") == [*top, ("file", "sub/model.onnx")]
    assert names("/sub") == [("file", "sub/model.onnx")]


def test_a_long_tree_comes_in_pages(mirror: RunningMirror) -> None:
    path, seen = "/api/models/owner/name/tree/main?recursive=True&limit=2", []
    while True:
        answer = ask(mirror, path)
        seen += [entry["path"] for entry in answer.json]
        if "Link" not in answer.headers:
            break
        assert len(answer.json) == 2
        path = answer.headers["Link"].partition(">")[0].removeprefix(f"<{mirror.endpoint}")

    assert seen == ["README.md", "empty.txt", "größe 1#.txt", "sub", "sub/model.onnx"]


def test_paths_can_be_asked_for_together(mirror: RunningMirror) -> None:
    form = urlencode({"paths": ["sub", "README.md", "nowhere"], "expand": "False"}, doseq=True)
    answer = ask(mirror, "/api/models/owner/name/paths-info/main", "POST", form)

    assert [entry["path"] for entry in answer.json] == ["README.md", "sub"]


def test_a_long_question_is_refused(mirror: RunningMirror) -> None:
    answer = ask(mirror, "/api/models/owner/name/paths-info/main", "POST", "paths=" + "x" * 2_000_000)

    assert answer.status == 413


@pytest.mark.parametrize(
    "path", [FILE, "/api/models/owner/name", "/api/models/owner/name/tree/main", "/owner/no/resolve/main/x"]
)
def test_a_private_mirror_tells_nothing_without_the_token(root: Path, path: str) -> None:
    with running_mirror(root, token="right") as mirror:
        none, wrong = ask(mirror, path), ask(mirror, path, authorization="Bearer wrong")
        right = ask(mirror, path, authorization="Bearer right")

    assert (none.status, none.headers["X-Error-Code"]) == (401, "RepoNotFound")
    assert (wrong.status, wrong.headers["X-Error-Message"]) == (401, "Invalid credentials in Authorization header")
    assert right.status == (404 if "/no/" in path else 200)


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


@pytest.mark.parametrize(
    "path", ["/owner/name/resolve/main/model.onnx", "/owner/name/tree/", "/api/models/owner/name/"]
)
def test_a_query_that_is_no_text_is_refused(mirror: RunningMirror, path: str) -> None:
    address = urlsplit(mirror.endpoint)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        connection.sendall(f"GET {path}?by|".encode() + b"\xc5=0 HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
