"""Over plain http only what is known beforehand."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub.rough_server import Reply, always, rough_server

from mecha.errors import ConfigError, IntegrityError
from mecha.hub.huggingface import HuggingFaceSource
from mecha.hub.source import RemoteFile, RepoType
from mecha.progress import silent
from mecha.service.fetch import Fetcher, Wanted
from mecha.service.plain_http import is_loopback, require_digest
from mecha.store.blobs import BlobCache
from mecha.store.lockfile import LockedFile, LockFile

WHAT = "owner/name/model.onnx"
GIVEN = b"what the server gives"


@pytest.mark.parametrize(
    "url",
    ["http://192.168.1.10:8090/owner/name", "http://gateway/x", "http://[2001:db8::1]/x", "http://127.evil.example/"],
)
def test_what_nothing_pins_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        require_digest(url, None, what=WHAT)

    assert str(refusal.value) == (
        f"{WHAT}: {'/'.join(url.split('/')[:3])} is plain http, where anybody on the network can change what comes, "
        "and nothing here says what it must be; expected its sha256 in the catalog or in mecha.lock"
    )
    assert refusal.value.hint == (
        "Write sha256 into the entry, or pull once over https (or on the machine of the mirror itself) and bring the "
        "mecha.lock of that along."
    )


@pytest.mark.parametrize(
    ("url", "digest"),
    [
        ("http://192.168.1.10:8090/owner/name", "0" * 64),
        ("https://huggingface.co/owner/name", None),
        ("http://127.0.0.1:8090/x", None),
        ("http://127.1.2.3/x", None),
        ("http://localhost:8090/x", None),
        ("http://[::1]:8090/x", None),
    ],
)
def test_what_is_pinned_or_near_or_encrypted_may_come(url: str, digest: str | None) -> None:
    require_digest(url, digest, what=WHAT)


def test_a_name_that_looks_like_this_machine_is_not_it() -> None:
    assert not is_loopback("localhost.example")
    assert not is_loopback("")


class Lan:
    """A Hub that says nothing of digests."""

    def __init__(self, url: str) -> None:
        self.url = url

    def resolve(self, repo: str, filename: str, *, revision: str = "main", repo_type: RepoType = "model") -> RemoteFile:
        return RemoteFile(repo, filename, repo_type, "c" * 40, self.url, "x", len(GIVEN), None)

    def elsewhere(self, remote: RemoteFile) -> Iterator[RemoteFile]:
        return iter(())

    def list_files(self, repo: str, *, revision: str = "main", repo_type: RepoType = "model") -> tuple[str, ...]:
        raise NotImplementedError

    def licence(self, repo: str, *, revision: str = "main") -> str | None:
        raise NotImplementedError


def fetcher(tmp_path: Path, url: str, *locked: LockedFile) -> Fetcher:
    lock_file = LockFile(tmp_path / "mecha.lock", tmp_path / "guard")
    for item in locked:
        lock_file.put(item)
    return Fetcher(BlobCache(tmp_path / "cache"), lock_file, lambda: Lan(url))


def test_a_fetch_is_refused_before_anything_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is plain http"):
        fetcher(tmp_path, "http://192.0.2.1/m").fetch(Wanted("owner/name", "model.onnx"), silent)

    assert not (tmp_path / "cache/partial").exists()
    assert not (tmp_path / "mecha.lock").exists()


def locked_as(content: bytes) -> LockedFile:
    return LockedFile(
        repo="owner/name", filename="model.onnx", requested="main", revision="c" * 40, etag="x",
        sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content),
    )  # fmt: skip


def test_bytes_that_are_not_those_of_the_lock_file_are_refused_where_the_server_tells_no_digest(tmp_path: Path) -> None:
    ours = locked_as(b"what was pulled before")
    with rough_server(always(Reply(200, {}, GIVEN))) as server, pytest.raises(IntegrityError) as refusal:
        fetcher(tmp_path, f"{server.endpoint}/m", ours).fetch(Wanted("owner/name", "model.onnx"), silent)

    assert str(refusal.value) == (
        f"owner/name/model.onnx at {'c' * 40}: sha256 is {hashlib.sha256(GIVEN).hexdigest()}, "
        f"mecha.lock expects {ours.sha256}"
    )
    assert LockFile(tmp_path / "mecha.lock", tmp_path / "guard").entries() == (ours,)
    assert not list((tmp_path / "cache").rglob("blobs/*"))


def test_bytes_that_are_those_of_the_lock_file_are_taken(tmp_path: Path) -> None:
    with rough_server(always(Reply(200, {}, GIVEN))) as server:
        fetched = fetcher(tmp_path, f"{server.endpoint}/m", locked_as(GIVEN)).fetch(
            Wanted("owner/name", "model.onnx"), silent
        )

    assert fetched.path.read_bytes() == GIVEN


def test_the_test_says_what_a_hub_says() -> None:
    assert {name for name in vars(Lan) if not name.startswith("_")} <= set(dir(HuggingFaceSource))
