"""Each way a server or a line can misbehave, and what comes of it, against a real server that does so."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from mecha.errors import AccessDeniedError, IntegrityError, MechaError, NetworkError, NotFoundError
from mecha.hub.download import Downloaded
from mecha.hub.partial import sidecar_path
from tests.hub.fetched import CONTENT, FILE, FLIPPED, HTML, OTHER, SIZE, fetch, redirect, remote_file
from tests.hub.rough_server import Move, Reply, always, deaf_to_ranges, honest, rough_server


@dataclass(frozen=True)
class Recovers:
    """A line that misbehaves, and still the file comes.

    Attributes:
        asked_from: the first byte of each request.
    """

    moves: list[Move]
    asked_from: list[int]
    transferred: int


RECOVERS = {
    "an honest server": Recovers([honest(CONTENT)], [0], SIZE),
    "cut at a byte": Recovers([honest(CONTENT, cut_after=100_000), honest(CONTENT)], [0, 100_000], SIZE),
    "cut twice": Recovers(
        [honest(CONTENT, cut_after=1000), honest(CONTENT, cut_after=5000), honest(CONTENT)], [0, 1000, 6000], SIZE
    ),
    "cut before anything can be looked at": Recovers(
        [honest(CONTENT, cut_after=100), honest(CONTENT)], [0, 0], SIZE + 100
    ),
    "cut before the first byte": Recovers([honest(CONTENT, cut_after=0), honest(CONTENT)], [0, 0], SIZE),
    "a stall": Recovers([honest(CONTENT, cut_after=50_000, stall=True), honest(CONTENT)], [0, 50_000], SIZE),
    "no answer at all": Recovers([always(Reply(silent=True)), honest(CONTENT)], [0, 0], SIZE),
    "ranges are ignored": Recovers(
        [deaf_to_ranges(CONTENT, cut_after=100_000), deaf_to_ranges(CONTENT)], [0, 100_000], SIZE + 100_000
    ),
    "no length, closed early": Recovers(
        [always(Reply(body=CONTENT[:9000], content_length=False)), honest(CONTENT)], [0, 9000], SIZE
    ),
    "no length, whole": Recovers([always(Reply(body=CONTENT, content_length=False))], [0], SIZE),
    "the wrong range": Recovers(
        [
            honest(CONTENT, cut_after=9000),
            always(Reply(206, {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}, CONTENT)),
            honest(CONTENT),
        ],
        [0, 9000, 0],
        SIZE + 9000,
    ),
    "a range without Content-Range": Recovers(
        [honest(CONTENT, cut_after=9000), always(Reply(206, {}, CONTENT[9000:])), honest(CONTENT)],
        [0, 9000, 0],
        SIZE + 9000,
    ),
    "a part when the whole was asked for": Recovers(
        [always(Reply(206, {"Content-Range": f"bytes 5-{SIZE - 1}/{SIZE}"}, CONTENT[5:])), honest(CONTENT)],
        [0, 0],
        SIZE,
    ),
    "416 in the middle": Recovers(
        [honest(CONTENT, cut_after=9000), always(Reply(416, {"Content-Range": "bytes */7"})), honest(CONTENT)],
        [0, 9000, 0],
        SIZE + 9000,
    ),
    "another etag, honestly": Recovers(
        [honest(CONTENT, cut_after=9000), honest(CONTENT, etag='"v2"')], [0, 9000], SIZE + 9000
    ),
    "another etag in spite of If-Range": Recovers(
        [
            honest(CONTENT, cut_after=9000),
            always(Reply(206, {"ETag": '"v2"', "Content-Range": f"bytes 9000-{SIZE - 1}/{SIZE}"}, OTHER[9000:])),
            honest(CONTENT, etag='"v2"'),
        ],
        [0, 9000, 0],
        SIZE + 9000,
    ),
    "the second half of something else": Recovers(
        [honest(CONTENT, cut_after=9000), honest(OTHER), honest(CONTENT)], [0, 9000, 0], SIZE + SIZE
    ),
    "busy": Recovers([always(Reply(503)), always(Reply(500)), honest(CONTENT)], [0, 0, 0], SIZE),
    "408": Recovers([always(Reply(408)), honest(CONTENT)], [0, 0], SIZE),
    "too many requests": Recovers([always(Reply(429, {"Retry-After": "3"})), honest(CONTENT)], [0, 0], SIZE),
    "a redirect": Recovers([always(Reply(302, {"Location": "/elsewhere"})), honest(CONTENT)], [0, 0], SIZE),
}


@pytest.mark.parametrize("case", RECOVERS.values(), ids=RECOVERS.keys())
def test_the_file_comes_whole_in_spite_of(case: Recovers, partial: Path) -> None:
    with rough_server(*case.moves) as server:
        result = fetch(remote_file(server), partial)

    assert partial.read_bytes() == CONTENT
    assert [seen.range_start for seen in server.seen] == case.asked_from
    assert result == Downloaded(hashlib.sha256(CONTENT).hexdigest(), SIZE, case.transferred, resumed_from=0)
    assert not sidecar_path(partial).exists()


@dataclass(frozen=True)
class Refuses:
    """A server of which nothing good comes; `{endpoint}` stands for its address.

    Attributes:
        kept: how many bytes stay for the next time.
        requests: how often it was asked.
    """

    moves: list[Move]
    error: type[MechaError]
    message: str
    kept: int = 0
    requests: int = 1


REFUSES = {
    "401": Refuses(
        [always(Reply(401))], AccessDeniedError, f"{FILE}: {{endpoint}}/model.onnx answered 401 Unauthorized"
    ),
    "403": Refuses([always(Reply(403))], AccessDeniedError, f"{FILE}: {{endpoint}}/model.onnx answered 403 Forbidden"),
    "404": Refuses([always(Reply(404))], NotFoundError, f"{FILE}: {{endpoint}}/model.onnx answered 404 Not Found"),
    "410": Refuses([always(Reply(410))], NotFoundError, f"{FILE}: {{endpoint}}/model.onnx answered 410 Gone"),
    "400": Refuses([always(Reply(400))], NetworkError, f"{FILE}: {{endpoint}}/model.onnx answered 400 Bad Request"),
    "304 unasked": Refuses(
        [always(Reply(304))], NetworkError, f"{FILE}: {{endpoint}}/model.onnx answered 304 Not Modified"
    ),
    "a status nobody knows": Refuses(
        [always(Reply(499))], NetworkError, f"{FILE}: {{endpoint}}/model.onnx answered 499"
    ),
    "500 for ever": Refuses(
        [always(Reply(500))],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx answered 500 Internal Server Error; gave up after 6 tries",
        requests=6,
    ),
    "429 with long patience asked for": Refuses(
        [always(Reply(429, {"Retry-After": "3600"}))],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx answered 429 Too Many Requests and asks to wait 3600 s",
    ),
    "416 to a request for the whole": Refuses(
        [always(Reply(416))],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx answered 416 Requested Range Not Satisfiable",
    ),
    "an HTML page": Refuses(
        [always(Reply(200, {"Content-Type": "text/html; charset=utf-8"}, HTML))],
        IntegrityError,
        f"{FILE}: {{endpoint}}/model.onnx answered with a web page; expected the file",
    ),
    "an HTML page that says it is a file": Refuses(
        [always(Reply(200, {"Content-Type": "application/octet-stream"}, HTML, content_length=False))],
        IntegrityError,
        f"{FILE}: {{endpoint}}/model.onnx answered with a web page; expected the file",
    ),
    "a redirect to a login page": Refuses(
        [redirect("/login?to=model"), always(Reply(200, {"Content-Type": "text/html"}, HTML))],
        IntegrityError,
        f"{FILE}: {{endpoint}}/login answered with a web page; expected the file",
        requests=2,
    ),
    "gzip": Refuses(
        [always(Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(CONTENT)))],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx sends it as gzip; expected plain bytes",
    ),
    "another length": Refuses(
        [always(Reply(200, {}, CONTENT + b"more"))],
        IntegrityError,
        f"{FILE}: {{endpoint}}/model.onnx sends {SIZE + 4} bytes; expected {SIZE}",
    ),
    "another length in a range": Refuses(
        [
            honest(CONTENT, cut_after=9000),
            always(Reply(206, {"ETag": '"v1"', "Content-Range": f"bytes 9000-{SIZE}/{SIZE + 1}"}, b"x")),
        ],
        IntegrityError,
        f"{FILE}: {{endpoint}}/model.onnx sends {SIZE + 1} bytes; expected {SIZE}",
        kept=9000,
        requests=2,
    ),
    "more than was said": Refuses(
        [always(Reply(200, {}, CONTENT + b"more" * 100, content_length=False))],
        IntegrityError,
        f"{FILE}: {{endpoint}}/model.onnx sends {SIZE + 400} bytes; expected {SIZE}",
    ),
    "a flipped bit": Refuses(
        [honest(FLIPPED)],
        IntegrityError,
        f"{FILE}: sha256: got {hashlib.sha256(FLIPPED).hexdigest()}; expected {hashlib.sha256(CONTENT).hexdigest()}",
    ),
    "a flipped bit, each time": Refuses(
        [honest(FLIPPED, cut_after=90_000), honest(FLIPPED)],
        IntegrityError,
        f"{FILE}: sha256: got {hashlib.sha256(FLIPPED).hexdigest()}; expected {hashlib.sha256(CONTENT).hexdigest()}",
        requests=3,
    ),
    "cut at the same byte for ever": Refuses(
        [deaf_to_ranges(CONTENT, cut_after=9000)],
        NetworkError,
        f"{FILE}: {{endpoint}}: the connection ended in the middle of the answer; gave up after 6 tries",
        kept=9000,
        requests=7,
    ),
    "silence for ever": Refuses(
        [honest(CONTENT, cut_after=9000), always(Reply(silent=True))],
        NetworkError,
        f"{FILE}: {{endpoint}}: the server went silent; gave up after 6 tries",
        kept=9000,
        requests=7,
    ),
    "a redirect to itself": Refuses(
        [redirect("/model.onnx")],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx redirects in a circle, back to {{endpoint}}/model.onnx",
    ),
    "redirects without end": Refuses(
        [redirect(f"/hop{number}?signature=x") for number in range(20)],
        NetworkError,
        f"{FILE}: {{endpoint}}/hop9 redirects more than 10 times",
        requests=11,
    ),
    "a redirect to no address": Refuses(
        [redirect("http://[::1/x")],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx redirects to 'http://[::1/x'; expected an address",
    ),
    "a redirect to no port": Refuses(
        [redirect("http://host:123456/x")],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx redirects to 'http://host:123456/x'; expected an address",
    ),
    "a redirect to no server": Refuses(
        [redirect("file:///etc/passwd")],
        NetworkError,
        f"{FILE}: {{endpoint}}/model.onnx redirects to a file address; expected http or https",
    ),
}


@pytest.mark.parametrize("case", REFUSES.values(), ids=REFUSES.keys())
def test_the_error_says_what_happened_when_it_is(case: Refuses, partial: Path) -> None:
    with rough_server(*case.moves) as server, pytest.raises(case.error) as raised:
        fetch(remote_file(server), partial)

    assert str(raised.value) == case.message.format(endpoint=server.endpoint)
    assert type(raised.value) is case.error
    assert raised.value.hint
    assert len(server.seen) == case.requests
    assert (partial.stat().st_size if partial.exists() else 0) == case.kept
    assert sidecar_path(partial).exists() == bool(case.kept)
