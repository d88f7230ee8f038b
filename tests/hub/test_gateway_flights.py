"""Files on their way through a gateway: who leaves, who waits, what makes room, and what nobody foresaw."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mecha.hub.gateway import Gateway
from mecha.hub.gateway_app import file_response, json_response
from mecha.hub.gateway_flight import Flight, UnforeseenError
from mecha.hub.gateway_store import Entry, GatewayStore
from mecha.hub.huggingface import HuggingFaceSource
from mecha.hub.mirror import running_mirror
from mecha.hub.pace import Retries
from mecha.project import HubSettings
from mecha.store.locks import exclusive
from tests.hub.rough_server import Reply, always
from tests.reliability.faulty_hub import COMMIT, FaultyHub, faulty_hub

CONTENT = b"0123456789" * 3000
PATH = "model.onnx"
SILENT = always(Reply(silent=True))


def gateway_of(folder: Path, endpoint: str, *, timeout_s: float = 10.0, keep_bytes: int | None = None) -> Gateway:
    source = HuggingFaceSource(endpoint, timeout_s=timeout_s, retries=Retries(attempts=1))
    return Gateway(folder, source, HubSettings(tries=1), keep_bytes=keep_bytes)


@pytest.fixture
def upstream() -> Iterator[FaultyHub]:
    with faulty_hub(CONTENT) as hub:
        yield hub


@pytest.fixture
def gateway(tmp_path: Path, upstream: FaultyHub) -> Gateway:
    return gateway_of(tmp_path / "kept", upstream.server.endpoint)


def entry_of_file(gateway: Gateway) -> Entry:
    return gateway.entry("model", "owner/name", COMMIT, PATH)


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def settled(gateway: Gateway) -> None:
    until(lambda: not gateway._flights)


def request(method: str = "GET") -> Request:
    return Request({"type": "http", "method": method, "headers": [], "query_string": b"", "path": "/"})


def file(gateway: Gateway, method: str = "GET", path: str = PATH, revision: str = COMMIT) -> Response:
    return file_response(request(method), gateway, "model", "owner/name", revision, path)


def sent(response: Response, *, leaves: Callable[[], bool] = lambda: False) -> tuple[int | None, bytes]:
    """Return the status and body that a client gets, None where it left before any.

    Args:
        leaves: asked again and again; the client goes when it is so.
    """

    async def run() -> list[Any]:
        messages: list[Any] = []

        async def receive() -> Any:
            while not leaves():
                await asyncio.sleep(0.005)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            messages.append(message)

        await asyncio.wait_for(response({"type": "http", "method": "GET"}, receive, send), 10)
        return messages

    messages = asyncio.run(run())
    status = messages[0]["status"] if messages else None
    return status, b"".join(message.get("body", b"") for message in messages)


@pytest.mark.parametrize(("removed", "status", "body"), [(2, 200, CONTENT), (3, 503, None)])
def test_a_file_that_is_removed_in_the_moment_in_which_it_is_whole_is_fetched_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, removed: int, status: int, body: bytes | None
) -> None:
    adopt, opened, adopted = GatewayStore.adopt, Flight.opened, list[Path]()

    def adopted_and_removed(store: GatewayStore, partial: Path, sha256: str) -> Path:
        adopted.append(adopt(store, partial, sha256))
        if len(adopted) <= removed:
            adopted[-1].unlink()
        return adopted[-1]

    def opened_late(flight: Flight) -> BinaryIO | None:
        # Whoever opens it while it comes has it, whatever becomes of its name.
        until(lambda: flight.over)
        return opened(flight)

    monkeypatch.setattr(GatewayStore, "adopt", adopted_and_removed)
    monkeypatch.setattr(Flight, "opened", opened_late)
    answer = sent(file(gateway))
    assert answer == (status, body or b'{"error":"model.onnx was removed to make room"}')
    assert len(adopted) == 3
    settled(gateway)


def test_what_nobody_foresaw_is_told_and_logged_once_and_the_next_client_tries_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def download(*_: object, **__: object) -> None:
        raise ValueError("embedded null byte")

    said = "owner/name/model.onnx: this gateway failed where it should not: ValueError: embedded null byte"
    entry = entry_of_file(gateway)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("mecha.hub.gateway.download", download)
        flight = gateway.flight(entry)
        until(lambda: flight.over)
        settled(gateway)
        assert str(flight.fault) == said
        assert sent(file(gateway)) == (500, b'{"error":"' + said.encode() + b'"}')
    assert [record.getMessage() for record in caplog.records] == [said] * 2, "once for each download"
    assert sent(file(gateway)) == (200, CONTENT)


def test_a_download_for_which_there_is_no_thread_is_told_and_tried_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    entry = entry_of_file(gateway)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(UnforeseenError) as caught:
            gateway.flight(entry)
    assert str(caught.value) == (
        "owner/name/model.onnx: this gateway failed where it should not: RuntimeError: can't start new thread"
    )
    flight = gateway.flight(entry)
    until(lambda: flight.over)
    assert flight.fault is None


def test_what_somebody_waits_for_does_not_make_room(tmp_path: Path) -> None:
    folder = tmp_path / "far/owner/name"
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / name).write_bytes(name.encode() * 4000)
    with running_mirror(tmp_path / "far") as far:
        gateway = gateway_of(tmp_path / "kept", far.endpoint, keep_bytes=5000)

        def brought(name: str) -> Path:
            flight = gateway.flight(gateway.entry("model", "owner/name", "main", name))
            until(lambda: flight.over)
            settled(gateway)
            assert flight.whole is not None
            return flight.whole

        first = brought("a")
        with gateway.watched(gateway.flight(gateway.entry("model", "owner/name", "main", "a"))):
            second = brought("b")
            assert first.exists()
            assert second.exists()
        third = brought("c")
        assert (first.exists(), second.exists(), third.exists()) == (False, False, True)


@pytest.mark.parametrize(("silent", "asked"), [("questions", "HEAD"), ("fetches", "GET")])
def test_a_client_that_leaves_before_the_first_byte_is_waited_for_no_longer(
    gateway: Gateway, upstream: FaultyHub, silent: str, asked: str
) -> None:
    setattr(upstream, silent, [SILENT])
    left = sent(file(gateway), leaves=lambda: any(seen.method == asked for seen in upstream.server.seen))
    assert left == (None, b"")


def test_a_silent_upstream_holds_no_thread_that_own_files_need(tmp_path: Path, upstream: FaultyHub) -> None:
    gateway = gateway_of(tmp_path / "kept", upstream.server.endpoint, timeout_s=0.1)
    upstream.server.moves = [SILENT]
    answers = [file(gateway), json_response(request(), gateway, "/api/models/owner/name", "main")]
    assert upstream.server.seen == []
    assert [sent(answer)[0] for answer in answers] == [504, 504]


def test_a_question_that_waits_for_its_turn_is_not_asked_for_a_client_that_left(
    gateway: Gateway, upstream: FaultyHub
) -> None:
    answered = threading.Event()
    others = [gateway.asking.submit(answered.wait) for _ in range(16)]
    try:
        assert sent(file(gateway), leaves=lambda: True) == (None, b"")
    finally:
        answered.set()
    gateway.asking.shutdown()
    assert all(other.done() for other in others)
    assert upstream.server.seen == []


def test_what_is_kept_is_given_without_asking_while_the_upstream_is_silent(
    tmp_path: Path, gateway: Gateway, upstream: FaultyHub
) -> None:
    assert sent(file(gateway, revision="main")) == (200, CONTENT)
    later = gateway_of(tmp_path / "kept", upstream.server.endpoint, timeout_s=0.1)
    upstream.questions = [SILENT]
    assert sent(file(later, "HEAD", "other.onnx"))[0] == 504
    asked = len(upstream.server.seen)
    assert sent(file(later, revision="main")) == (200, CONTENT)
    assert sent(file(later, "HEAD", revision="main"))[0] == 200
    assert len(upstream.server.seen) == asked


def test_a_path_that_no_file_has_is_not_asked_about(gateway: Gateway, upstream: FaultyHub) -> None:
    said = (404, "A path of more than 1024 bytes does not exist")
    with pytest.raises(HTTPException) as caught:
        file(gateway, path="x" * 1025)
    assert (caught.value.status_code, caught.value.detail) == said
    with pytest.raises(HTTPException) as caught:
        json_response(request(), gateway, "/api/models/owner/name/tree/main/" + "x" * 1025, "main")
    assert (caught.value.status_code, caught.value.detail) == said
    assert upstream.server.seen == []


def test_what_another_gateway_of_the_folder_gets_is_sent_on_meanwhile(gateway: Gateway) -> None:
    entry = entry_of_file(gateway)
    partial = gateway._store.partial(entry.key)
    partial.write_bytes(CONTENT[:100])
    with exclusive(partial.with_suffix(".lock"), timeout_s=0):
        flight = gateway.flight(entry)
        until(lambda: flight.may_send() == 100)
        partial.write_bytes(CONTENT)
        until(lambda: flight.may_send() == len(CONTENT) - 1)
        assert not flight.over
        gateway._store.adopt(partial, entry.key)
    until(lambda: flight.over)
    assert (flight.may_send(), flight.restarts) == (len(CONTENT), 0)
