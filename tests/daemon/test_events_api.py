"""The stream of events: from now on, from where somebody left, and with signs of life."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mecha.daemon import events_api
from mecha.daemon.events_api import events_router
from mecha.daemon.health_api import health_router
from tests.daemon.served_device import Served, served
from tests.runtime.projects import make_project
from tests.runtime.waiting import wait_for


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Served]:
    """A daemon that was not started: nothing happens but what a test lets happen."""
    from mecha.daemon.daemon import Daemon
    from mecha.project import find_project

    daemon = Daemon(find_project(make_project(tmp_path), {}), {})
    with served(
        tmp_path, events_router(daemon, heartbeat_s=0.2), health_router(daemon), daemon=daemon, start=False
    ) as one:
        yield one


class Stream:
    """One who listens."""

    def __init__(self, device: Served, path: str = "/api/events", **headers: str) -> None:
        self.connection = device.open()
        self.connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        assert self.response.headers["Content-Type"].startswith("text/event-stream")
        self.ids: list[str] = []

    def block(self) -> list[str]:
        lines: list[str] = []
        while line := self.response.readline().decode().rstrip("\n"):
            lines.append(line)
        return lines

    def next(self) -> dict[str, Any]:
        while True:
            lines = self.block()
            data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
            if data:
                self.ids += [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
                found: dict[str, Any] = json.loads(data[0])
                return found

    def close(self) -> None:
        self.connection.close()
        self.response.close()


def publish(device: Served, *lines: str) -> None:
    for line in lines:
        device.daemon.events.log(line)


def test_events_come_as_they_happen(device: Served) -> None:
    publish(device, "before")
    stream = Stream(device)
    assert stream.block() == ["retry: 2000"]
    publish(device, "one", "two\nlines ä")
    assert [stream.next()["line"], stream.next()["line"]] == ["one", "two\nlines ä"]
    stream.close()


def test_one_who_lost_the_connection_misses_nothing(device: Served) -> None:
    stream = Stream(device)
    stream.block()
    publish(device, "one")
    stream.next()
    stream.close()
    publish(device, "two", "three")
    again = Stream(device, last_event_id=stream.ids[-1])
    assert [again.next()["line"], again.next()["line"]] == ["two", "three"]
    again.close()


def test_an_id_of_a_daemon_before_this_one_gives_all_that_is_kept(device: Served) -> None:
    publish(device, "one", "two")
    stream = Stream(device, "/api/events?follow=false", last_event_id="18c1-1")
    assert [stream.next()["line"], stream.next()["line"]] == ["one", "two"]
    stream.close()


@pytest.mark.parametrize("said", ["", "-", "x-", "0-" + "9" * 40, "nonsense"])
def test_an_id_that_is_none_is_passed_over(device: Served, said: str) -> None:
    publish(device, "before")
    stream = Stream(device, last_event_id=said)
    assert stream.block() == ["retry: 2000"]
    publish(device, "now")
    assert stream.next()["line"] == "now"
    stream.close()


def test_only_what_is_asked_for_comes_and_what_is_kept_has_an_end(device: Served) -> None:
    publish(device, "one")
    device.daemon.state.set_model("m", state="pulling", stage="download")
    publish(device, "two")
    body = device.ask("GET", "/api/events?follow=false&kinds=model").body.decode()
    events = [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")]
    assert [event["event"] for event in events] == ["model"]
    assert device.ask("GET", "/api/log").json == {"lines": ["one", "two"]}


def test_silence_has_signs_of_life(device: Served) -> None:
    stream = Stream(device)
    stream.block()
    assert stream.block() == [": all is well"]
    stream.close()


def test_one_who_leaves_makes_room_for_another(device: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_api, "MOST_LISTENERS", 1)
    stream = Stream(device)
    stream.block()
    refused = device.ask("GET", "/api/events")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
    assert refused.json["error"] == "1 programs listen already"
    stream.close()
    wait_for(lambda: device.ask("GET", "/api/events?follow=false").status == 200)


def test_the_end_of_the_daemon_ends_the_stream(device: Served) -> None:
    stream = Stream(device)
    stream.block()
    device.daemon.events.close()
    while stream.block():
        pass
    assert stream.response.read() == b""
    stream.close()


def test_health_and_readiness_say_why_not(device: Served) -> None:
    health, ready = device.ask("GET", "/healthz"), device.ask("GET", "/readyz")
    assert (health.status, health.json) == (503, {"alive": False})
    assert (ready.status, ready.json) == (503, {"ready": False, "why": "the daemon begins"})


def test_a_started_daemon_without_nodes_is_alive_and_ready(tmp_path: Path) -> None:
    with served(make_project(tmp_path)) as device:
        assert device.ask("GET", "/healthz").json == {"alive": True}
        assert device.ask("GET", "/readyz").json == {"ready": True, "why": ""}
