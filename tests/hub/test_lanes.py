"""Several connections for one file: only where they are faster, and never at the cost of a right file."""

import hashlib
import re
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from mecha.errors import IntegrityError
from mecha.hub.download import Downloaded, download
from mecha.hub.pace import Clock, RateWatch, Widening
from mecha.hub.source import RemoteFile
from mecha.progress import silent
from tests.hub.rough_server import Move, Reply, RoughServer, Seen, rough_server

CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(60_000))
SIZE = len(CONTENT)
ETAG = '"v1"'
EAGER = Widening(connections=4, measure_s=0.15, worth_s=0.3, gain=1.25, segment_s=0.1)
PIECE, PAUSE_S = 20_000, 0.015


def slow(content: bytes = CONTENT, *, gate: "threading.Lock | None" = None, etag: str = ETAG) -> Move:
    """A server that gives each connection 1 MB/s; with a gate all of them share that."""

    def move(seen: Seen) -> Reply:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers.get("range", ""))
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        drip = (PIECE, PAUSE_S)
        if asked is None or seen.headers.get("if-range", etag) != etag:
            return Reply(200, headers, content, drip=drip, gate=gate)
        start, end = int(asked[1]), int(asked[2] or len(content) - 1)
        part = {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return Reply(206, part, content[start : end + 1], drip=drip, gate=gate)

    return move


def to_segments(move: Move, otherwise: Move) -> Move:
    """Answer a request for a range that has an end, as only further connections ask for, in another way."""
    return lambda seen: (move if re.search(r"-\d+$", seen.headers.get("range", "")) else otherwise)(seen)


def segments(server: RoughServer) -> list[Seen]:
    return [seen for seen in server.seen if re.search(r"-\d+$", seen.headers.get("range", ""))]


def fetch(server: RoughServer, partial: Path, widening: Widening = EAGER, limit: int | None = None) -> Downloaded:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    remote = RemoteFile("owner/name", "m.onnx", "model", "c" * 40, f"{server.endpoint}/m", sha256, SIZE, sha256)
    return download(remote, partial, progress=silent, widening=widening, limit_bytes_per_s=limit)


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "m.partial"


def test_connections_are_added_where_each_has_its_own_rate(partial: Path) -> None:
    with rough_server(slow()) as server:
        done = fetch(server, partial)
        asked = segments(server)
        last = server.seen[-1].headers["range"]
    assert partial.read_bytes() == CONTENT
    assert done.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert done.transferred_bytes < 1.2 * SIZE
    assert len(asked) > 4
    # Segments follow one another: no byte is asked for twice, none is left out.
    bounds = sorted(tuple(map(int, seen.headers["range"].removeprefix("bytes=").split("-"))) for seen in asked)
    assert all(end + 1 == start for (_, end), (start, _) in pairwise(bounds))
    # On a busy machine the gain may end before the file does: then the rest comes in one answer.
    assert bounds[-1][1] == SIZE - 1 or last == f"bytes={bounds[-1][1] + 1}-"
    assert {seen.headers["if-range"] for seen in asked} == {ETAG}


def test_one_connection_goes_on_where_all_share_one_rate(partial: Path) -> None:
    with rough_server(slow(gate=threading.Lock())) as server:
        fetch(server, partial)
        last = server.seen[-1]
    assert partial.read_bytes() == CONTENT
    assert re.fullmatch(r"bytes=\d+-", last.headers["range"]), "the rest came in one answer"


def test_a_fast_line_is_left_alone(partial: Path) -> None:
    with rough_server(slow()) as server:
        fetch(server, partial, Widening(measure_s=0.1, worth_s=60))
        assert segments(server) == []
    assert partial.read_bytes() == CONTENT


def test_who_limits_the_rate_or_wants_one_connection_has_one(tmp_path: Path) -> None:
    with rough_server(slow()) as server:
        fetch(server, tmp_path / "a", limit=5_000_000)
        fetch(server, tmp_path / "b", Widening(connections=1, measure_s=0.1, worth_s=0.1))
        assert segments(server) == []


WRONG: dict[str, Callable[[Seen], Reply]] = {
    "refuses": lambda seen: Reply(429, {"Retry-After": "1"}),
    "cuts": lambda seen: Reply(206, slow()(seen).headers, slow()(seen).body, cut_after=10),
    "sends the whole file": lambda seen: Reply(200, {"ETag": ETAG}, CONTENT),
    "sends another range": lambda seen: Reply(206, {"Content-Range": f"bytes 0-9/{SIZE}"}, CONTENT[:10]),
    "has another file": lambda seen: Reply(206, {**slow()(seen).headers, "ETag": '"v2"'}, slow()(seen).body),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_one_connection_goes_on_when_the_server_of_a_further_one(wrong: Move, partial: Path) -> None:
    with rough_server(to_segments(wrong, slow())) as server:
        fetch(server, partial)
        assert segments(server)
    assert partial.read_bytes() == CONTENT


def test_wrong_bytes_of_a_further_connection_are_found_and_all_is_fetched_again_by_one(partial: Path) -> None:
    flipped = bytes([CONTENT[0] ^ 1]) * SIZE
    with rough_server(to_segments(slow(flipped), slow())) as server:
        fetch(server, partial)
        assert "range" not in server.seen[-1].headers
    assert partial.read_bytes() == CONTENT


def test_wrong_bytes_of_every_connection_are_not_kept(partial: Path) -> None:
    with rough_server(slow(bytes(SIZE))) as server, pytest.raises(IntegrityError):
        fetch(server, partial)
    assert not partial.exists()


def test_what_is_on_the_disk_is_the_start_of_the_file_at_any_moment(partial: Path) -> None:
    held: list[bool] = []

    def look(_stage: str, completed: int, _total: int | None) -> None:
        if len(held) % 10 == 0:
            held.append(partial.read_bytes() == CONTENT[:completed])
        else:
            held.append(partial.stat().st_size == completed)

    with rough_server(slow()) as server:
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        remote = RemoteFile("owner/name", "m.onnx", "model", "c" * 40, f"{server.endpoint}/m", sha256, SIZE, sha256)
        download(remote, partial, progress=look, widening=EAGER)
        assert segments(server)
    assert all(held)


def test_a_rate_is_measured_once_after_the_line_has_got_going() -> None:
    now = [0.0]
    watch = RateWatch(Widening(measure_s=2, worth_s=10), Clock(monotonic=lambda: now[0]))
    said = []
    for second in range(8):
        now[0] = float(second)
        said.append(watch.is_too_slow(size=max(0, second - 2) * 100, total=10_000))
    assert said == [False, False, False, False, True, False, False, False]
    assert watch.rate == 100.0
