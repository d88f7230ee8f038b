"""The Hub as a source, against the mirror and against servers that are none."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mecha.errors import (
    AccessDeniedError,
    ConfigError,
    MechaError,
    NetworkError,
    NotFoundError,
    OfflineError,
)
from mecha.hub.download import download
from mecha.hub.huggingface import DEFAULT_ENDPOINT, HuggingFaceSource
from mecha.hub.mirror import RunningMirror, running_mirror
from mecha.hub.pace import Clock
from mecha.progress import silent
from tests.hub.rough_server import Move, Reply, RoughServer, always, rough_server

MODEL = bytes(range(256)) * 400
SHA256 = hashlib.sha256(MODEL).hexdigest()
COMMIT = "c" * 40
FILE_HEADERS = {"X-Repo-Commit": COMMIT, "ETag": f'"{SHA256}"', "Content-Length": str(len(MODEL))}
IMPATIENT = Clock(sleep=lambda seconds: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    for path, content in {
        "owner/name/yolov8n/model.onnx": MODEL,
        "owner/name/README.md": b"---\nlicense: agpl-3.0\n---\n",
        "owner/bare/model.onnx": MODEL,
        "datasets/owner/photos/1.jpg": b"jpg",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@pytest.fixture
def mirror(root: Path) -> Iterator[RunningMirror]:
    with running_mirror(root) as mirror:
        yield mirror


def source_of(endpoint: str, token: str | None = None) -> HuggingFaceSource:
    return HuggingFaceSource(endpoint, token, timeout_s=2.0, token_origin="HF_TOKEN", clock=IMPATIENT)


def test_a_file_is_resolved_to_its_commit_and_digest(mirror: RunningMirror) -> None:
    remote = source_of(mirror.endpoint).resolve("owner/name", "yolov8n/model.onnx")

    assert (remote.sha256, remote.etag, remote.size_bytes) == (SHA256, SHA256, len(MODEL))
    assert remote.url == f"{mirror.endpoint}/owner/name/resolve/{remote.commit}/yolov8n/model.onnx"
    assert "authorization" not in remote.headers


def test_what_is_resolved_can_be_downloaded(root: Path, tmp_path: Path) -> None:
    with running_mirror(root, token="secret") as mirror:
        source = source_of(mirror.endpoint, "secret")
        model = download(source.resolve("owner/name", "yolov8n/model.onnx"), tmp_path / "m", progress=silent)
        photo = download(source.resolve("owner/photos", "1.jpg", repo_type="dataset"), tmp_path / "p", progress=silent)

    assert (model.sha256, photo.sha256) == (SHA256, hashlib.sha256(b"jpg").hexdigest())
    assert (tmp_path / "m").read_bytes() == MODEL


def test_files_and_licence_are_told(mirror: RunningMirror) -> None:
    source = source_of(mirror.endpoint)

    assert source.list_files("owner/name") == ("README.md", "yolov8n/model.onnx")
    assert source.list_files("owner/photos", repo_type="dataset") == ("1.jpg",)
    assert source.licence("owner/name") == "agpl-3.0"
    assert source.licence("owner/bare") is None


def test_resolving_asks_one_question_and_nothing_else(mirror: RunningMirror) -> None:
    source_of(mirror.endpoint).resolve("owner/name", "yolov8n/model.onnx")

    assert [(seen.method, seen.path) for seen in mirror.requests] == [
        ("HEAD", "/owner/name/resolve/main/yolov8n/model.onnx")
    ]


CHILD = """
import json, os
from mecha.hub.huggingface import HuggingFaceSource
remote = HuggingFaceSource.from_environment(os.environ).resolve("owner/name", "yolov8n/model.onnx")
print(json.dumps(remote.headers["user-agent"]))
"""


def test_a_fresh_process_reports_nothing_and_stores_nothing(mirror: RunningMirror, private_home: Path) -> None:
    environ = {**os.environ, "HF_ENDPOINT": mirror.endpoint}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environ, check=True, capture_output=True, text=True)

    assert json.loads(done.stdout).startswith("mecha/")
    assert "torch" not in done.stdout
    assert len(mirror.requests) == 1
    assert list(private_home.rglob("*")) == []


@pytest.mark.parametrize(
    ("repo", "filename", "revision", "message", "hint"),
    [
        (
            "owner/name",
            "yolov8n/modle.onnx",
            "main",
            'owner/name: no file "yolov8n/modle.onnx" at revision "main" on {endpoint}; '
            'did you mean "yolov8n/model.onnx"?',
            "The repo holds 2 files: README.md, yolov8n/model.onnx.",
        ),
        (
            "owner/name",
            "yolov8n/model.onnx",
            "v9",
            'owner/name: no revision "v9" on {endpoint}',
            "Name a branch, a tag or a commit of the repo, or none for the newest.",
        ),
        (
            "owner/nmae",
            "model.onnx",
            "main",
            "owner/nmae: no such model repo on {endpoint}",
            "Check owner and name; a private repo also answers like this to a token that may not see it.",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_there_is(
    mirror: RunningMirror, repo: str, filename: str, revision: str, message: str, hint: str
) -> None:
    with pytest.raises(NotFoundError) as raised:
        source_of(mirror.endpoint).resolve(repo, filename, revision=revision)

    assert (str(raised.value), raised.value.hint) == (message.format(endpoint=mirror.endpoint), hint)


def test_a_missing_file_is_said_even_when_the_others_cannot_be_listed() -> None:
    missing = Reply(404, {"X-Error-Code": "EntryNotFound"})
    with rough_server(always(missing), always(Reply(403))) as server, pytest.raises(NotFoundError) as raised:
        source_of(server.endpoint).resolve("owner/name", "m.onnx")

    assert str(raised.value) == f'owner/name: no file "m.onnx" at revision "main" on {server.endpoint}'


def test_a_repo_name_that_cannot_be_one_is_a_config_error(mirror: RunningMirror) -> None:
    with pytest.raises(ConfigError, match='repo: got "a/b/c"; expected owner/name'):
        source_of(mirror.endpoint).resolve("a/b/c", "model.onnx")


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (
            None,
            "owner/name: {endpoint} answered 401 Unauthorized: there is no such model repo, or it is private and no "
            "token was sent",
        ),
        ("wrong", "owner/name: {endpoint} answered 401 Unauthorized: it does not accept the token from HF_TOKEN"),
    ],
)
def test_a_private_hub_says_which_token_it_got(root: Path, token: str | None, message: str) -> None:
    with running_mirror(root, token="right") as mirror, pytest.raises(AccessDeniedError) as raised:
        source_of(mirror.endpoint, token).resolve("owner/name", "yolov8n/model.onnx")

    assert str(raised.value) == message.format(endpoint=mirror.endpoint)


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (
            Reply(403, {"X-Error-Code": "GatedRepo"}),
            AccessDeniedError,
            "owner/name: its owners give access on request, and no token was sent",
        ),
        (Reply(500), NetworkError, "owner/name/m.onnx: {endpoint} answered 500 Internal Server Error"),
        (Reply(429), NetworkError, "owner/name/m.onnx: {endpoint} answered 429 Too Many Requests"),
        (
            Reply(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"),
            NetworkError,
            "owner/name/m.onnx: {endpoint} answered, but not as a Hub does",
        ),
        (
            Reply(302, {"Location": "http://127.0.0.1:1/login"}),
            NetworkError,
            "owner/name/m.onnx: {endpoint} answered, but not as a Hub does",
        ),
        (
            Reply(302, {"Location": "http://[::1/x"}),
            NetworkError,
            "owner/name/m.onnx: {endpoint} answered, but not as a Hub does",
        ),
        (
            Reply(302, {"Location": "/"}),
            NetworkError,
            "owner/name/m.onnx: {endpoint}: the server redirects without end",
        ),
        (Reply(silent=True), NetworkError, "owner/name/m.onnx: {endpoint}: the server went silent"),
    ],
    ids=[
        "gated",
        "500",
        "429",
        "a web page",
        "a redirect to a login page",
        "a redirect to no address",
        "a circle",
        "silence",
    ],
)
def test_a_server_that_refuses_is_said(reply: Reply, error: type[MechaError], message: str) -> None:
    with rough_server(always(reply)) as server, pytest.raises(error) as raised:
        HuggingFaceSource(server.endpoint, timeout_s=0.2, clock=IMPATIENT).resolve("owner/name", "m.onnx")

    assert (type(raised.value), str(raised.value)) == (error, message.format(endpoint=server.endpoint))


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"[]", b'{"sha": 1}', b"null"])
def test_a_list_that_is_no_list_is_said(body: bytes) -> None:
    with rough_server(always(Reply(200, {}, body))) as server, pytest.raises(NetworkError) as raised:
        source_of(server.endpoint).list_files("owner/name")

    assert str(raised.value) == f"owner/name: {server.endpoint} answered, but not as a Hub does"


def test_a_hub_that_stumbles_is_asked_again() -> None:
    with rough_server(always(Reply(503)), always(Reply(200, FILE_HEADERS, MODEL))) as server:
        remote = source_of(server.endpoint).resolve("owner/name", "m.onnx")

    assert remote.commit == COMMIT
    assert len(server.seen) == 2


def test_a_hub_that_is_gone_is_said(root: Path) -> None:
    with running_mirror(root) as mirror:
        pass
    with pytest.raises(NetworkError) as raised:
        source_of(mirror.endpoint).resolve("owner/name", "m.onnx")

    assert str(raised.value) == (f"owner/name/m.onnx: {mirror.endpoint}: connection refused: nothing listens there")


def test_a_server_without_tls_is_said(mirror: RunningMirror) -> None:
    with pytest.raises(NetworkError, match=r"https://127\.0\.0\.1:\d+: no secure connection: "):
        source_of(mirror.endpoint.replace("http:", "https:")).resolve("owner/name", "m.onnx")


def redirecting(to: RoughServer) -> Move:
    headers = {
        "X-Repo-Commit": COMMIT,
        "X-Linked-Etag": f'"{SHA256}"',
        "X-Linked-Size": str(len(MODEL)),
        "X-Xet-Hash": "0" * 64,
        "Location": f"{to.endpoint}/signed?signature=x",
    }
    return always(Reply(302, headers))


def test_a_file_in_other_storage_keeps_the_hubs_own_address_and_the_token_stays_there(tmp_path: Path) -> None:
    with (
        rough_server(always(Reply(200, {"ETag": '"cdn"'}, MODEL))) as storage,
        rough_server(redirecting(storage)) as hub,
    ):
        remote = source_of(hub.endpoint, "secret").resolve("owner/name", "m.onnx")
        assert storage.seen == []
        result = download(remote, tmp_path / "m", progress=silent)

    assert remote.url == f"{hub.endpoint}/owner/name/resolve/{COMMIT}/m.onnx"
    assert (remote.sha256, remote.size_bytes, result.sha256) == (SHA256, len(MODEL), SHA256)
    assert [seen.headers.get("authorization") for seen in hub.seen] == ["Bearer secret"] * 2
    assert [seen.headers.get("authorization") for seen in storage.seen] == [None]


def test_a_small_file_has_a_git_digest_only(tmp_path: Path) -> None:
    git = hashlib.sha1(b"blob %d\0" % len(MODEL) + MODEL, usedforsecurity=False).hexdigest()
    with rough_server(always(Reply(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{git}"'}, MODEL))) as server:
        remote = source_of(server.endpoint).resolve("owner/name", "labels.txt")
        download(remote, tmp_path / "labels", progress=silent)

    assert (remote.sha256, remote.etag, remote.size_bytes) == (None, git, len(MODEL))


def test_offline_asks_nothing(mirror: RunningMirror) -> None:
    environ = {"HF_ENDPOINT": mirror.endpoint}
    for source in (
        HuggingFaceSource.from_environment(environ, offline=True),
        HuggingFaceSource.from_environment({**environ, "HF_HUB_OFFLINE": "1"}),
    ):
        with pytest.raises(OfflineError) as raised:
            source.resolve("owner/name", "yolov8n/model.onnx")
        with pytest.raises(OfflineError):
            source.list_files("owner/name")

    assert str(raised.value) == (
        f"owner/name/yolov8n/model.onnx: {mirror.endpoint} is needed, and the network is switched off"
    )
    assert mirror.requests == ()


@pytest.mark.parametrize(
    ("environ", "endpoint", "expected"),
    [
        ({}, None, DEFAULT_ENDPOINT),
        ({}, "http://gateway:8090", "http://gateway:8090"),
        ({"HF_ENDPOINT": "http://gateway:8090/"}, None, "http://gateway:8090"),
        ({"HF_ENDPOINT": "http://gateway:8090"}, "https://settings.example", "http://gateway:8090"),
        ({"HF_ENDPOINT": " "}, None, DEFAULT_ENDPOINT),
    ],
)
def test_the_environment_goes_before_the_settings(environ: dict[str, str], endpoint: str | None, expected: str) -> None:
    assert HuggingFaceSource.from_environment(environ, endpoint).address == expected


@pytest.mark.parametrize("address", ["huggingface.co", "ftp://host", "http://", "http://[::1", "http://host:0", "/x"])
def test_an_endpoint_that_is_no_address_is_a_config_error(address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        HuggingFaceSource.from_environment({"HF_ENDPOINT": address})

    assert str(raised.value) == f'HF_ENDPOINT: got "{address}"; expected http://host[:port] or https://host[:port]'
    with pytest.raises(ConfigError, match="endpoint: got "):
        HuggingFaceSource(address)


def test_the_token_of_the_environment_is_sent_and_never_shown(root: Path) -> None:
    with running_mirror(root, token="secret") as mirror:
        source = HuggingFaceSource.from_environment({"HF_ENDPOINT": mirror.endpoint, "HF_TOKEN": "secret"})
        remote = source.resolve("owner/name", "yolov8n/model.onnx")

    assert remote.headers["authorization"] == "Bearer secret"
    assert "secret" not in f"{source!r} {remote!r}"
