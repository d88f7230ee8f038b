"""What the mirror answers to who asks for files, by hand over real connections."""

import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from mecha.hub.mirror import RunningMirror, running_mirror
from tests.hub.asked_mirror import FILE, MODEL, SHA256, ask, write


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


@pytest.mark.parametrize(
    "path", ["/owner/name/resolve/main/model.onnx", "/owner/name/tree/", "/api/models/owner/name/"]
)
def test_a_query_that_is_no_text_is_refused(mirror: RunningMirror, path: str) -> None:
    address = urlsplit(mirror.endpoint)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        connection.sendall(f"GET {path}?by|".encode() + b"\xc5=0 HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
