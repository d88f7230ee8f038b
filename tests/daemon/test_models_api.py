"""Models over HTTP: in the shape of Ollama's API, with a real Hub on loopback and real connections."""

import itertools
import json
import socket
import threading
from datetime import datetime

import pytest

from mecha import __version__
from tests.daemon.asked_device import PATIENCE_S, Device
from tests.runtime.waiting import wait_for
from tests.threads import left_threads

SLOW = 400_000
"""Bytes a second: the model takes some four seconds."""


def test_a_model_is_pulled_listed_shown_and_removed_as_ollama_does_it(device: Device) -> None:
    assert device.ask("GET", "/api/version").json == {"version": __version__}
    assert device.ask("GET", "/api/tags").json == {"models": []}

    pulled = device.pull()
    lines = pulled.lines
    assert (pulled.status, pulled.headers["content-type"]) == (200, "application/x-ndjson")
    assert lines[0] == {"status": "pulling manifest"}
    transfers = [line for line in lines if "digest" in line]
    sha256 = device.daemon.service().store.require("arena").manifest.files["model.onnx"].sha256
    assert {(line["status"], line["digest"]) for line in transfers} == {(f"pulling {sha256[:12]}", f"sha256:{sha256}")}
    assert transfers[-1]["completed"] == transfers[-1]["total"] == transfers[0]["total"] > 1_000_000
    assert lines[-1]["status"] == "success"
    assert lines[-1]["report"]["downloaded_bytes"] == transfers[-1]["total"]

    (tag,) = device.ask("GET", "/api/tags").json["models"]
    assert (tag["name"], tag["model"], len(tag["digest"])) == ("arena", "arena", 64)
    assert tag["size"] > transfers[-1]["total"]
    assert datetime.fromisoformat(tag["modified_at"]).tzinfo is not None
    assert tag["details"] == {
        "parent_model": "",
        "format": "onnx",
        "family": "yolov8",
        "families": ["yolov8"],
        "parameter_size": "367.0K",
        "quantization_level": "FP32",
    }
    shown = device.ask("POST", "/api/show", {"model": "arena"}).json
    assert (shown["license"], shown["details"], shown["capabilities"]) == (
        "Apache-2.0",
        tag["details"],
        ["object-detection"],
    )
    assert shown["model_info"]["mecha.classes"] == ["cone", "ball", "crate", "tag"]

    # With what clients of Ollama put behind a name, and as older ones call it.
    removed = device.ask("DELETE", "/api/delete", {"name": "arena:latest"})
    assert (removed.status, removed.body) == (200, b"")
    assert device.ask("GET", "/api/tags").json == {"models": []}


def test_without_a_stream_a_pull_is_answered_once(device: Device) -> None:
    answer = device.pull(stream=False)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["status"] == "success"
    assert answer.json["report"]["changed"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_pull_that_fails_soon_is_answered_with_a_status(device: Device, stream: bool) -> None:
    answer = device.ask("POST", "/api/pull", {"model": "arema", "stream": stream})
    assert answer.status == 404
    assert answer.json == {
        "error": 'model "arema" is not in the catalog; did you mean "arena"?',
        "hint": "`mecha models list` shows what can be pulled.",
        "kind": "NotFoundError",
    }


def test_a_client_that_leaves_ends_its_pull_and_the_next_one_goes_on_with_it(device: Device) -> None:
    connection = device.open()
    connection.request("POST", "/api/pull", json.dumps({"model": "arena", "limit_bytes_per_s": SLOW}))
    connection.sock.settimeout(PATIENCE_S)
    answer = connection.getresponse()
    reached = 0
    while reached < SLOW // 4:
        reached = json.loads(answer.readline()).get("completed") or 0
    answer.close()
    connection.close()
    wait_for(lambda: device.daemon.state.model("arena") is None, timeout_s=PATIENCE_S, what="the pull ends")
    assert device.daemon.service().store.published("arena") is None

    last = device.pull().lines[-1]
    size = device.daemon.service().store.require("arena").manifest.files["model.onnx"].size_bytes
    assert last["status"] == "success"
    assert 0 < last["report"]["downloaded_bytes"] <= size - SLOW // 4


def test_a_node_keeps_its_model_and_the_precision_it_runs_is_told(device: Device) -> None:
    assert device.pull().status == 200
    state = device.daemon.state
    state.set_model("arena", wanted_by=("front", "rear"), usable=True)
    state.set_node("front", state="running", stats={"precision": "FP32"})
    state.set_node("rear", state="restarting", stats={"precision": "FP32"})

    published = device.daemon.service().store.require("arena")
    (loaded,) = device.ask("GET", "/api/ps").json["models"]
    assert loaded | {"details": {}, "digest": ""} == {
        "name": "arena",
        "model": "arena",
        "size": published.manifest.files["model.onnx"].size_bytes,
        "digest": "",
        "details": {},
        "expires_at": "9999-12-31T23:59:59Z",
        "size_vram": 0,
        "precision": "FP32",
        "node": "front",
    }
    refused = device.ask("DELETE", "/api/delete", {"model": "arena"})
    assert refused.status == 409
    assert refused.json == {
        "error": "arena is run by front, rear: it is not removed",
        "hint": "Give the config.json of front, rear another model first.",
        "kind": "BusyError",
    }
    assert device.daemon.service().store.published("arena") is not None


def test_a_catalog_that_cannot_be_read_hides_nothing_that_is_there(device: Device) -> None:
    assert device.pull().status == 200
    before = device.ask("GET", "/api/models").json
    assert before["fault"] == ""
    assert {line["name"]: line["state"] for line in before["models"]}["arena"] == "ready"
    (device.root / "model_catalog.toml").write_text("[[models\n")

    after = device.ask("GET", "/api/models").json
    assert after["fault"].startswith("model_catalog.toml:1:9: not TOML: ")
    assert [(line["name"], line["state"]) for line in after["models"]] == [("arena", "ready")]
    assert len(device.ask("GET", "/api/tags").json["models"]) == 1


WRONG = {
    b"": "body: field required",
    b"{": "body: got no JSON: Expecting property name enclosed in double quotes",
    b"[]": "body: input should be a valid dictionary or object to extract fields from",
    b"{}": 'body: got no "model"; expected the name of one',
    b'{"model": 3}': "body.model: input should be a valid string",
    b'{"model": "arena", "stream": "no"}': "body.stream: input should be a valid boolean",
    b'{"model": "arena", "method": "int4"}': "body.method: input should be 'dynamic_int8', 'static_int8' or 'auto'",
    b'{"model": "arena", "limit_bytes_per_s": 0}': (
        "body.limit_bytes_per_s: input should be greater than or equal to 1"
    ),
    b'{"model": "\\ud800"}': (
        "body.model: input should be a valid string, unable to parse raw data as a unicode string"
    ),
}


def test_a_body_that_is_wrong_is_refused_with_a_sentence(device: Device) -> None:
    for body, error in WRONG.items():
        answer = device.ask("POST", "/api/pull", body)
        assert (answer.status, answer.json) == (400, {"error": error, "hint": "", "kind": ""})


def test_what_is_no_name_finds_nothing(device: Device) -> None:
    names = ["../../etc/passwd", "..", "/etc", "a/b", "a\\b", "NUL", "x" * 5000, "a\nb", "é"]
    routes = [("POST", "/api/pull"), ("POST", "/api/show"), ("DELETE", "/api/delete")]
    for name, (method, path) in itertools.product(names, routes):
        answer = device.ask(method, path, {"model": name})
        assert answer.status == 404
        assert answer.json["error"].startswith('model: got "')
        assert len(answer.json["error"]) < 250


def test_a_body_is_json_whatever_its_type_says(device: Device) -> None:
    answer = device.ask("POST", "/api/show", b'{"model": "arena"}', content_type="application/x-www-form-urlencoded")
    assert answer.status == 404
    assert answer.json["error"].startswith('model "arena" is not pulled')


def test_who_would_pull_from_elsewhere_is_told_so(device: Device) -> None:
    answer = device.pull(settings="0" * 64)
    assert (answer.status, answer.json["error"]) == (412, "the daemon was started with another Hub or cache")


def test_too_many_pulls_at_a_time_are_refused(device: Device) -> None:
    waiting, before = [device.open() for _ in range(16)], set(threading.enumerate())
    try:
        for connection in waiting:
            connection.request("POST", "/api/pull", json.dumps({"model": "arena", "limit_bytes_per_s": SLOW}))
        wait_for(lambda: left_threads(before).count("asked pull") == 16, timeout_s=PATIENCE_S)
        answer = device.pull()
        assert (answer.status, answer.headers["retry-after"]) == (429, "10")
        assert answer.json["error"] == "16 pulls run already"
    finally:
        for connection in waiting:
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()


def test_a_pull_for_which_there_is_no_thread_takes_no_place(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("mecha.daemon.models_api.AskedPull", no_thread)
        for _ in range(17):
            answer = device.pull()
            assert (answer.status, answer.headers["retry-after"]) == (503, "10")
            assert answer.json["error"] == "no thread can be started for it"
    assert device.pull(stream=False).status == 200


def test_the_description_names_every_route_and_how_it_fails(device: Device) -> None:
    described = device.ask("GET", "/openapi.json").json["paths"]
    routes = {(path, method) for path, methods in described.items() for method in methods}
    assert {
        ("/api/pull", "post"),
        ("/api/tags", "get"),
        ("/api/ps", "get"),
        ("/api/show", "post"),
        ("/api/delete", "delete"),
        ("/api/version", "get"),
        ("/api/models", "get"),
        ("/api/models/{name}", "get"),
        ("/api/status", "get"),
    } <= routes
    for path in ("/api/pull", "/api/show"):
        assert {"200", "4XX", "5XX"} <= described[path]["post"]["responses"].keys()
    assert set(described["/api/pull"]["post"]["responses"]["200"]["content"]) == {
        "application/x-ndjson",
        "application/json",
    }
