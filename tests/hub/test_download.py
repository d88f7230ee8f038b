"""Each way a server or a line can misbehave, and what comes of it, against a real server that does so."""

import gzip
import hashlib
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mecha.errors import AccessDeniedError, DiskError, IntegrityError, MechaError, NetworkError, NotFoundError
from mecha.hub.download import Downloaded, download
from mecha.hub.pace import Clock, Retries
from mecha.hub.partial import sidecar_path
from mecha.hub.source import RemoteFile
from mecha.hub.transfer import Timeouts, redirected
from mecha.progress import silent
from tests.hub.rough_server import Move, Reply, RoughServer, always, deaf_to_ranges, honest, rough_server

CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(6000))
SIZE = len(CONTENT)
OTHER = bytes(SIZE)
FLIPPED = CONTENT[:70_000] + bytes([CONTENT[70_000] ^ 1]) + CONTENT[70_001:]
HTML = b"<!DOCTYPE html><title>Hotel Wi-Fi</title>" + b" " * 2000
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


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "model.partial"


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


def redirect(location: str) -> Move:
    return always(Reply(302, {"Location": location}))


FILE = "owner/name/model.onnx"
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


def test_a_login_page_costs_nothing_of_what_had_come(partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), always(Reply(401))) as server, pytest.raises(AccessDeniedError):
        fetch(remote_file(server), partial)
    with (
        rough_server(always(Reply(200, {}, HTML, content_length=False))) as portal,
        pytest.raises(IntegrityError, match="web page"),
    ):
        fetch(remote_file(portal), partial)
    with rough_server(honest(CONTENT)) as server:
        result = fetch(remote_file(server), partial)

    assert (result.resumed_from, result.transferred_bytes) == (9000, SIZE - 9000)


def test_a_redirect_from_https_to_plain_http_is_refused(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server, pytest.raises(NetworkError) as raised:
        redirected(remote_file(server), "https://hub/a?signature=x", f"{server.endpoint}/b?signature=x", set())

    assert str(raised.value) == f"{FILE}: https://hub/a redirects from https to plain http, to {server.endpoint}/b"


def test_the_token_stays_with_the_host_it_is_for(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as storage:
        with rough_server(redirect(f"{storage.endpoint}/signed?signature=x")) as hub:
            fetch(remote_file(hub), partial)

        assert hub.seen[0].headers["authorization"] == "Bearer secret"
        assert [seen.headers.get("authorization") for seen in storage.seen] == [None]
        assert storage.seen[0].headers["user-agent"] == "mecha"


def test_the_token_is_not_sent_again_after_a_redirect_away_and_back(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as storage:
        with rough_server(redirect(f"{storage.endpoint}/away"), honest(CONTENT)) as hub:
            storage.moves[:] = [redirect(f"{hub.endpoint}/back")]
            fetch(remote_file(hub), partial)

        assert ["authorization" in seen.headers for seen in hub.seen] == [True, False]


def test_every_retry_asks_the_hub_for_a_new_signed_address(partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), honest(CONTENT)) as storage:
        with rough_server(redirect(f"{storage.endpoint}/1"), redirect(f"{storage.endpoint}/2")) as hub:
            fetch(remote_file(hub), partial)

        assert [seen.path for seen in storage.seen] == ["/1", "/2"]


def test_only_plain_bytes_are_asked_for(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server:
        fetch(remote_file(server), partial)

    assert server.seen[0].headers["accept-encoding"] == "identity"


def test_a_range_is_tied_to_the_validator_of_the_server_that_sent_the_start(partial: Path) -> None:
    with rough_server(honest(CONTENT, etag='"cdn-7"', cut_after=9000), honest(CONTENT, etag='"cdn-7"')) as server:
        fetch(remote_file(server), partial)

    assert server.seen[1].headers["if-range"] == '"cdn-7"'


def test_a_weak_validator_is_not_sent(partial: Path) -> None:
    with rough_server(honest(CONTENT, etag='W/"v1"', cut_after=9000), honest(CONTENT, etag='W/"v1"')) as server:
        fetch(remote_file(server), partial)

    assert "if-range" not in server.seen[1].headers
    assert server.seen[1].range_start == 9000


def test_the_server_says_how_long_to_wait(partial: Path) -> None:
    time = FakeTime()
    with rough_server(always(Reply(503, {"Retry-After": "7"})), always(Reply(503)), honest(CONTENT)) as server:
        fetch(remote_file(server), partial, clock=time.clock)

    assert time.slept == [7.0, 1.0]


def test_tries_are_counted_anew_when_something_came(partial: Path) -> None:
    cut = honest(CONTENT, cut_after=9000)
    with rough_server(*[cut] * 10, honest(CONTENT)) as server:
        fetch(remote_file(server), partial, retries=Retries(attempts=2))

    assert len(server.seen) == 11


def test_a_server_that_is_gone_is_asked_a_few_times(partial: Path) -> None:
    with rough_server(honest(CONTENT)) as server:
        remote = remote_file(server)
    time = FakeTime()
    with pytest.raises(NetworkError) as raised:
        fetch(remote, partial, clock=time.clock)

    assert str(raised.value) == (
        f"{FILE}: {server.endpoint}: connection refused: nothing listens there; gave up after 6 tries"
    )
    assert time.slept == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_slow_line_is_not_given_up(partial: Path) -> None:
    pieces = [CONTENT[start : start + 20_000] for start in range(0, SIZE, 20_000)]

    with rough_server(honest(CONTENT)) as server:
        fetch(remote_file(server), partial, limit_bytes_per_s=500_000, clock=Clock())

    assert len(pieces) * 0.04 > QUICK.stall_s
    assert partial.read_bytes() == CONTENT


def test_the_first_bytes_are_shown_before_any_is_written(partial: Path) -> None:
    looked_at: list[tuple[bytes, int]] = []

    def look(start: bytes) -> None:
        looked_at.append((start, partial.stat().st_size))

    with rough_server(honest(CONTENT)) as server:
        fetch(remote_file(server), partial, check_start=look)

    [(start, size)] = looked_at
    assert len(start) >= 512
    assert CONTENT.startswith(start)
    assert size == 0


def test_what_the_look_at_the_first_bytes_raises_is_raised_and_nothing_is_kept(partial: Path) -> None:
    def refuse(start: bytes) -> None:
        raise IntegrityError("no ONNX")

    with rough_server(honest(CONTENT)) as server, pytest.raises(IntegrityError, match="no ONNX"):
        fetch(remote_file(server), partial, check_start=refuse)

    assert list(partial.parent.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"x", b"short label\n"], ids=["empty", "one byte", "one line"])
def test_a_small_file_is_whole_too(content: bytes, partial: Path) -> None:
    with rough_server(honest(content)) as server:
        result = fetch(remote_file(server, content), partial, check_start=lambda start: None)

    assert partial.read_bytes() == content
    assert result.size_bytes == len(content)


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def plain_digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("digest", [git_digest, plain_digest])
def test_a_file_without_sha256_is_checked_by_its_etag(digest: Callable[[bytes], str], partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), honest(CONTENT)) as server:
        remote = replace(remote_file(server), sha256=None, etag=digest(CONTENT))
        result = fetch(remote, partial)

    assert result.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_damaged_file_without_sha256_is_refused(partial: Path) -> None:
    with rough_server(honest(FLIPPED)) as server, pytest.raises(IntegrityError) as raised:
        fetch(replace(remote_file(server), sha256=None, etag=git_digest(CONTENT)), partial)

    assert str(raised.value) == f"{FILE}: git digest: got {git_digest(FLIPPED)}; expected {git_digest(CONTENT)}"
    assert not partial.exists()


def test_a_file_of_which_nothing_is_known_is_taken_as_it_comes(partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), honest(CONTENT)) as server:
        fetch(replace(remote_file(server), sha256=None, etag="opaque", size_bytes=None), partial)

    assert partial.read_bytes() == CONTENT


def test_a_web_page_is_taken_when_it_is_the_file(partial: Path) -> None:
    with rough_server(always(Reply(200, {"Content-Type": "text/html"}, HTML))) as server:
        fetch(replace(remote_file(server, HTML), filename="docs/index.html"), partial)

    assert partial.read_bytes() == HTML


def test_progress_counts_bytes_up_to_the_size(partial: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    with rough_server(honest(CONTENT)) as server:
        download(remote_file(server), partial, progress=lambda *report: told.append(report))

    assert told[0] == ("download", 0, SIZE)
    assert told[-1] == ("download", SIZE, SIZE)
    assert [completed for _, completed, _ in told] == sorted(completed for _, completed, _ in told)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_nobody_else_can_read_a_partial_file(partial: Path) -> None:
    with rough_server(honest(CONTENT, cut_after=9000), always(Reply(404))) as server, pytest.raises(NotFoundError):
        fetch(remote_file(server), partial)

    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert stat.S_IMODE(sidecar_path(partial).stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_a_disk_error(tmp_path: Path) -> None:
    with rough_server(honest(CONTENT)) as server, pytest.raises(DiskError, match="cannot open"):
        fetch(remote_file(server), tmp_path / "nowhere" / "model.partial")

    assert server.seen == []
