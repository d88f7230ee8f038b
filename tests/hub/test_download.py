"""Downloads from a real server: what is asked for, who gets the token, what is waited for, checked and kept."""

import hashlib
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mecha.errors import AccessDeniedError, DiskError, IntegrityError, NetworkError, NotFoundError
from mecha.hub.download import download
from mecha.hub.pace import Clock, Retries
from mecha.hub.partial import sidecar_path
from mecha.hub.transfer import redirected
from tests.hub.fetched import (
    CONTENT,
    FILE,
    FLIPPED,
    HTML,
    QUICK,
    SIZE,
    FakeTime,
    fetch,
    git_digest,
    redirect,
    remote_file,
)
from tests.hub.rough_server import Reply, always, honest, rough_server


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
