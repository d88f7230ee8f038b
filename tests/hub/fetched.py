"""A file on a server that misbehaves, and a download of it that waits for nothing."""

import hashlib
from pathlib import Path

from mecha.hub.download import Downloaded, download
from mecha.hub.pace import Clock
from mecha.hub.source import RemoteFile
from mecha.hub.transfer import Timeouts
from mecha.progress import silent
from tests.hub.rough_server import Move, Reply, RoughServer, always

CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(6000))
SIZE = len(CONTENT)
OTHER = bytes(SIZE)
FLIPPED = CONTENT[:70_000] + bytes([CONTENT[70_000] ^ 1]) + CONTENT[70_001:]
HTML = b"<!DOCTYPE html><title>Hotel Wi-Fi</title>" + b" " * 2000
FILE = "owner/name/model.onnx"
QUICK = Timeouts(connect_s=2.0, stall_s=0.2)


def remote_file(server: RoughServer, content: bytes = CONTENT) -> RemoteFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return RemoteFile(
        repo="owner/name",
        filename="model.onnx",
        repo_type="model",
        commit="c" * 40,
        url=f"{server.endpoint}/model.onnx",
        etag=sha256,
        size_bytes=len(content),
        sha256=sha256,
        headers={"authorization": "Bearer secret", "user-agent": "mecha"},
    )


class FakeTime:
    """Waits are noted, not waited; chance is always 0."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.clock = Clock(sleep=self.slept.append, now=lambda: 0.0, random=lambda: 0.0)


def fetch(remote: RemoteFile, partial: Path, **options: object) -> Downloaded:
    chosen: dict[str, object] = {"timeouts": QUICK, "clock": FakeTime().clock, **options}
    return download(remote, partial, progress=silent, **chosen)  # type: ignore[arg-type]  # a table cannot be typed


def redirect(location: str) -> Move:
    return always(Reply(302, {"Location": location}))


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
