"""What a gateway remembers of its upstream, and for how long."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from mecha.errors import AccessDeniedError, NetworkError
from mecha.hub import gateway_store
from mecha.hub.gateway import api_path
from mecha.hub.gateway_questions import Name, NamedLocks, Questions
from mecha.hub.gateway_store import GatewayStore, Stored
from mecha.hub.source import RemoteFile

COMMIT = "c" * 40
FILE: Name = ("model", "owner/name", "main", "model.onnx")


@dataclass
class Upstream:
    """Says what a file is, or raises; counts who asks."""

    fault: NetworkError | None = None
    asked: list[Name] = field(default_factory=list)
    now_s: float = 1000.0

    def resolve(self, name: Name) -> RemoteFile:
        self.asked.append(name)
        if self.fault is not None:
            raise self.fault
        repo_type, repo, _, path = name
        return RemoteFile(repo, path, repo_type, COMMIT, "http://up/x", "etag", 10, None)

    def questions(self) -> Questions:
        return Questions(self.resolve, lambda: self.now_s)


def silence() -> NetworkError:
    error = NetworkError("owner/name/model.onnx: http://up: the server went silent", hint="Try again.")
    error.__cause__ = httpx2.ReadTimeout("timed out")
    return error


def test_an_answer_is_that_of_the_commit_too_and_is_asked_for_again_after_seconds() -> None:
    upstream = Upstream()
    questions = upstream.questions()
    said = questions.ask(FILE)
    assert questions.ask(FILE) is questions.ask(("model", "owner/name", COMMIT, "model.onnx")) is said
    assert upstream.asked == [FILE]
    upstream.now_s += 10
    questions.ask(FILE)
    assert upstream.asked == [FILE] * 2


@pytest.mark.parametrize(
    ("fault", "kept_s", "silent"),
    [(silence(), 10.0, True), (AccessDeniedError("http://up answered 401", hint="Log in."), 1.0, False)],
)
def test_who_asks_the_same_is_told_the_fault_at_once(fault: NetworkError, kept_s: float, *, silent: bool) -> None:
    upstream = Upstream(fault)
    questions = upstream.questions()
    for _ in range(5):
        with pytest.raises(type(fault)) as caught:
            questions.ask(FILE)
        assert (str(caught.value), caught.value.hint) == (str(fault), fault.hint)
    assert upstream.asked == [FILE]
    assert questions.silent == silent
    upstream.now_s += kept_s
    upstream.fault = None
    assert not questions.silent
    assert questions.ask(FILE).commit == COMMIT


def test_nothing_is_left_of_names_that_nobody_asks_for_any_more() -> None:
    upstream = Upstream(silence())
    questions = upstream.questions()
    for number in range(100):
        with pytest.raises(NetworkError):
            questions.ask(("model", "owner/name", "main", str(number)))
    assert len(questions) == 100
    upstream.now_s += 10
    with pytest.raises(NetworkError):
        questions.ask(FILE)
    assert len(questions) == 1
    assert len(questions._locks) == 0


def test_a_lock_is_there_as_long_as_somebody_holds_it() -> None:
    locks = NamedLocks()
    with locks.held("a"), locks.held("b"):
        assert len(locks) == 2
    assert len(locks) == 0


def test_a_name_is_held_by_one_at_a_time() -> None:
    locks, held, worst = NamedLocks(), list[int](), list[int]()

    def hold(number: int) -> None:
        with locks.held("a"):
            held.append(number)
            time.sleep(0.001)
            worst.append(len(held))
            held.remove(number)

    with ThreadPoolExecutor(4) as several:
        list(several.map(hold, range(20)))
    assert worst == [1] * 20
    assert len(locks) == 0


def test_all_who_ask_at_once_get_the_answer_to_one_question() -> None:
    upstream, answered, asking = Upstream(), threading.Event(), threading.Barrier(5)
    questions = upstream.questions()
    resolve = upstream.resolve

    def slow(name: Name) -> RemoteFile:
        answered.wait(10)
        return resolve(name)

    def ask(_number: int) -> RemoteFile:
        asking.wait(10)
        return questions.ask(FILE)

    questions._resolve = slow
    with ThreadPoolExecutor(4) as several:
        answers = several.map(ask, range(4))
        asking.wait(10)
        time.sleep(0.01)  # all of them come to ask, though none that does not would be missed
        answered.set()
        assert len({id(answer) for answer in answers}) == 1
    assert upstream.asked == [FILE]


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", ""),
        ("blobs=true", "?blobs=true"),
        ("x=1&expand=a&y=%00&expand=b", "?expand=a&expand=b"),
        ("x=1", ""),
    ],
)
def test_an_upstream_is_asked_with_the_keys_of_its_api_only(query: str, asked: str) -> None:
    assert api_path("models", "owner", "name", ("tree", "main"), query) == f"/api/models/owner/name/tree/main{asked}"


@pytest.mark.parametrize(("limit", "value"), [("_ANSWERS", 3), ("_ANSWERS_BYTES", 100)])
def test_of_what_the_upstream_said_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    store, before = GatewayStore(tmp_path), set[Path]()
    for number in range(5):
        store.put_answer(str(number), Stored("12345"))
        (newest,) = set((tmp_path / "answers").iterdir()) - before
        os.utime(newest, ns=(number, number))
        before.add(newest)
    monkeypatch.setattr(gateway_store, limit, value)
    store.put_answer("5", Stored("12345"))
    assert [number for number in range(6) if store.answer(str(number)) is not None] == [3, 4, 5]
    monkeypatch.setattr(gateway_store, limit, 0)
    store.sweep()
    assert list((tmp_path / "answers").iterdir()) == []
