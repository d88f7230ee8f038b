"""A Hub that knows one file, answers questions about it as a Hub does, and misbehaves as told when it is fetched."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx

from tests.detect.blob_detector import blob_detector
from tests.hub.rough_server import Move, Reply, RoughServer, Seen, rough_server

# It names the model that such a Hub has.
CATALOG = """
[[models]]
name = "m"
task = "object-detection"
repo = "owner/name"
filename = "model.onnx"
license = "Apache-2.0"
"""
SIZE = 100_000
COMMIT = "c" * 40


def model_of(size: int) -> bytes:
    """A detector whose file has exactly so many bytes."""
    model = onnx.load_from_string(blob_detector())
    model.metadata_props.add(key="filler", value="x" * (size // 2))
    missing = size - len(model.SerializeToString())
    model.metadata_props[-1].value = "x" * (size // 2 + missing)
    # The lengths of longer texts may take a byte more themselves.
    model.metadata_props[-1].value = "x" * (size // 2 + missing - (len(model.SerializeToString()) - size))
    content: bytes = model.SerializeToString()
    assert len(content) == size
    return content


@dataclass
class FaultyHub:
    """Moves for a RoughServer.

    Attributes:
        content: of `owner/name/model.onnx`.
        questions: how HEAD requests are answered, one after the other; the last one stays; as a Hub does when empty.
        fetches: how GET requests are.
    """

    content: bytes
    server: RoughServer
    questions: list[Move] = field(default_factory=list)
    fetches: list[Move] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def url(self) -> str:
        return f"{self.server.endpoint}/owner/name/resolve/{COMMIT}/model.onnx"

    def requests(self, method: str) -> list[Seen]:
        return [seen for seen in self.server.seen if seen.method == method]

    def honest(self, seen: Seen) -> Reply:
        """Answer as a Hub does."""
        named = {"ETag": f'"{self.sha256}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(self.content))}
        if start := seen.range_start:
            part = {"Content-Range": f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"}
            return Reply(206, named | part | self.headers, self.content[start:])
        return Reply(200, named | self.headers, self.content)

    def answer(self, seen: Seen) -> Reply:
        moves = self.questions if seen.method == "HEAD" else self.fetches
        asked = len(self.requests(seen.method))
        return (moves[min(asked, len(moves)) - 1] if moves else self.honest)(seen)


@contextmanager
def faulty_hub(content: bytes) -> Iterator[FaultyHub]:
    with rough_server() as server:
        hub = FaultyHub(content, server)
        server.moves = [hub.answer]
        yield hub
