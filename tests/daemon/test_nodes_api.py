"""What nodes do, run with and see, over HTTP. With real nodes on a real bus."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mecha.daemon.topics import LatestMessages
from mecha.detect.images import decode_image
from mecha.runtime.bus.local import LocalBus
from tests.daemon.served_device import Served, served
from tests.runtime.projects import TICKER, add_node, configure, make_project
from tests.runtime.supervision import PATIENCE_S
from tests.runtime.waiting import wait_for

WATCHER = """
    from typing import ClassVar

    from mecha.runtime.messages import ControlMessage, DetectionsMessage, FrameMessage
    from mecha.runtime.node import Field, Node, NodeConfig

    print("a program may print")

    class Inner(NodeConfig):
        depth: int = 1
        name: str = "x"

    class WatcherConfig(NodeConfig):
        threshold: float = Field(0.5, ge=0, le=1)
        enabled: bool = True
        inner: Inner = Inner()

    class Watcher(Node[WatcherConfig]):
        config_model = WatcherConfig
        inputs: ClassVar = {"/camera/rgb": FrameMessage, "/vision/object/control": ControlMessage}
        outputs: ClassVar = {"/vision/object/detections": DetectionsMessage}

        def step(self, message) -> None:
            if isinstance(message, ControlMessage):
                self.log.info("told %s", message.use_int8)
                return
            self.report_inference(1.0, "FP32", message.seq)
            height, width = message.frame_bgr.shape[:2]
            found = [{"label": "cone", "class_id": 0, "score": 0.9, "box": [0, 0, 4, 4]}]
            self.publish(
                "/vision/object/detections",
                DetectionsMessage(message.seq, 0, width, height, "FP32", "m", "0" * 64, found, {"session": 1.0}),
            )
"""
LONER = """
    from mecha.runtime.node import Node

    class Loner(Node):
        def step(self, message: None) -> None:
            self.wait(0.05)
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with three nodes; what a test changes, it changes back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        root = make_project(tmp_path_factory.mktemp("project"), ticker=TICKER, watcher=WATCHER, loner=LONER)
        configure(root, "watcher", threshold=0.25, inner={"depth": 2, "name": "kept"})
        configure(root, "ticker", pause_s=0.02)
        with served(root) as running:
            for node in ("ticker", "watcher", "loner"):
                running.wait_for_state(node, "running")
            yield running


def config_file(device: Served) -> Path:
    return device.daemon.project.root / "configs/common/nodes/watcher/config.json"


def test_nodes_are_told_with_state_and_figures(device: Served) -> None:
    def figures() -> bool:
        rows = {row["name"]: row for row in device.ask("GET", "/api/nodes").json["nodes"]}
        assert sorted(rows) == ["loner", "ticker", "watcher"]
        assert all(row["state"] == "running" and row["pid"] for row in rows.values())
        return all(row["stats"] is not None for row in rows.values())

    wait_for(figures, timeout_s=PATIENCE_S)


def test_a_config_is_read_with_its_defaults_and_what_its_keys_may_be(device: Served) -> None:
    answer = device.ask("GET", "/api/nodes/watcher/config")
    assert answer.status == 200
    told = answer.json
    assert told["config"] == {"threshold": 0.25, "enabled": True, "inner": {"depth": 2, "name": "kept"}}
    assert told["written_to"] == "configs/common/nodes/watcher/config.json"
    assert told["files"] == ["configs/common/nodes/watcher/config.json"]
    assert told["constraints"]["properties"]["threshold"]["maximum"] == 1


def test_a_change_keeps_the_other_keys_and_reaches_the_node(device: Served) -> None:
    before = config_file(device).read_bytes()
    answer = device.send("PATCH", "/api/nodes/watcher/config", {"threshold": 0.75, "inner": {"depth": 5}})
    assert answer.status == 200, answer.body
    expected = {"threshold": 0.75, "inner": {"depth": 5, "name": "kept"}}
    assert json.loads(config_file(device).read_text()) == expected
    assert answer.json["config"] == {**expected, "enabled": True}
    assert device.ask("GET", "/api/nodes/watcher/config").json["config"]["threshold"] == 0.75
    wait_for(
        lambda: any("Config changed: threshold: 0.25 -> 0.75" in line for line in device.daemon.events.recent()),
        timeout_s=PATIENCE_S,
    )
    config_file(device).write_bytes(before)
    assert device.ask("GET", "/api/nodes/watcher/config").json["config"]["threshold"] == 0.25


def test_a_change_that_would_be_refused_is_not_written_and_says_key_and_line(device: Served) -> None:
    before = config_file(device).read_bytes()
    answer = device.send("PATCH", "/api/nodes/watcher/config", {"enabled": False, "threshold": 7, "thresold": 1})
    assert answer.status == 422
    assert answer.json["error"] == (
        "configs/common/nodes/watcher/config.json:2: threshold: got 7; expected at most 1\n"
        'configs/common/nodes/watcher/config.json:8: thresold: unknown key; did you mean "threshold"?'
    )
    assert config_file(device).read_bytes() == before


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"[1]", 400, "body: "),
        (b"{", 400, "body: "),
        (b'{"threshold": NaN}', 422, "got NaN, Infinity or a value nested too deeply; expected JSON"),
        (b'{"inner": {"name": "\\ud800"}}', 422, "got half of a letter (a lone surrogate); expected text"),
        (b'{"threshold": "0.5"}', 422, 'threshold: got "0.5"; expected a number'),
    ],
)
def test_a_body_that_says_nothing_of_use_is_refused(device: Served, body: bytes, status: int, said: str) -> None:
    answer = device.ask("PATCH", "/api/nodes/watcher/config", body, content_type="application/json")
    assert (answer.status, said in answer.json["error"]) == (status, True), answer.body


@pytest.mark.parametrize("name", ["nobody", "..%2f..%2fetc", "%2e%2e", "watcher%00"])
@pytest.mark.parametrize(("method", "path"), [("GET", "config"), ("PATCH", "config"), ("POST", "restart"),
                                              ("GET", "frame.jpg"), ("GET", "detections")])  # fmt: skip
def test_a_node_that_is_not_there_is_not_found(device: Served, name: str, method: str, path: str) -> None:
    answer = device.ask(method, f"/api/nodes/{name}/{path}", b"{}" if method != "GET" else None,
                        content_type="application/json")  # fmt: skip
    assert answer.status == 404, answer.body
    assert answer.json["error"]


def test_a_node_whose_program_breaks_is_told_and_nothing_is_written(device: Served) -> None:
    root = device.daemon.project.root
    add_node(root, "broken", "raise ValueError('as ever')")
    add_node(root, "gone", "import os; os._exit(7)")
    try:
        answer = device.send("PATCH", "/api/nodes/broken/config", {"a": 1})
        assert (answer.status, answer.json["kind"]) == (503, "NodeError")
        assert "cannot be imported: ValueError: as ever" in answer.json["error"]
        answer = device.send("PATCH", "/api/nodes/gone/config", {"a": 1})
        assert answer.json["error"].endswith(
            "node.py: its import ended the process that reads the config (exit code 7)"
        )
        assert not (root / "configs/common/nodes/broken").exists()
    finally:
        for name in ("broken", "gone"):
            (root / "nodes" / name / "node.py").unlink()


def test_a_node_is_paused_resumed_and_started_again(device: Served) -> None:
    assert device.ask("POST", "/api/nodes/loner/pause").json == {"node": "loner", "order": "pause"}
    device.wait_for_state("loner", "paused")
    assert device.ask("POST", "/api/nodes/loner/resume").status == 202
    device.wait_for_state("loner", "running")
    before = device.daemon.state.node("loner")
    assert device.ask("POST", "/api/nodes/loner/restart").status == 202

    def another() -> bool:
        now = device.daemon.state.node("loner")
        return now is not None and before is not None and now.state == "running" and now.pid != before.pid

    wait_for(another, timeout_s=PATIENCE_S)


def test_a_command_reaches_the_nodes(device: Served) -> None:
    answer = device.send("POST", "/api/control", {"use_int8": True})
    assert (answer.status, answer.json) == (200, {"sent": {"use_int8": True}})
    wait_for(lambda: "[INFO] watcher: told True" in device.daemon.events.recent(), timeout_s=PATIENCE_S)
    assert device.send("POST", "/api/control", {"use_int9": True}).status == 400


@pytest.mark.parametrize("node", ["ticker", "watcher"])
def test_the_last_frame_is_a_jpeg(device: Served, node: str) -> None:
    def pictured() -> bool:
        return device.ask("GET", f"/api/nodes/{node}/frame.jpg").status == 200

    wait_for(pictured, timeout_s=PATIENCE_S)
    answer = device.ask("GET", f"/api/nodes/{node}/frame.jpg")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Frame-Size"] == "8x8"
    assert int(answer.headers["X-Frame"]) >= 0
    assert decode_image(answer.body, where="frame").shape == (8, 8, 3)


def test_a_frame_that_is_known_is_not_sent_again(device: Served) -> None:
    device.ask("POST", "/api/nodes/ticker/pause")
    device.wait_for_state("ticker", "paused")
    try:
        wait_for(lambda: device.ask("GET", "/api/nodes/ticker/frame.jpg").status in {200, 503}, timeout_s=PATIENCE_S)
        device.ask("POST", "/api/nodes/ticker/resume")
        wait_for(lambda: device.ask("GET", "/api/nodes/ticker/frame.jpg").status == 200, timeout_s=PATIENCE_S)
        device.ask("POST", "/api/nodes/ticker/pause")
        device.wait_for_state("ticker", "paused")

        def known() -> bool:
            answer = device.ask("GET", "/api/nodes/ticker/frame.jpg")
            again = device.ask("GET", "/api/nodes/ticker/frame.jpg", if_none_match=answer.headers["ETag"])
            return (again.status, again.body) == (304, b"")

        wait_for(known, timeout_s=PATIENCE_S)
    finally:
        device.ask("POST", "/api/nodes/ticker/resume")
        device.wait_for_state("ticker", "running")


def test_detections_come_with_the_number_of_their_frame(device: Served) -> None:
    wait_for(lambda: device.ask("GET", "/api/nodes/watcher/detections").status == 200, timeout_s=PATIENCE_S)
    told = device.ask("GET", "/api/nodes/watcher/detections").json
    assert told["frame"] >= 0
    assert (told["width"], told["height"], told["model"]) == (8, 8, "m")
    assert told["detections"] == [{"label": "cone", "class_id": 0, "score": 0.9, "box": [0, 0, 4, 4]}]


def test_a_node_without_frames_has_no_picture(device: Served) -> None:
    answer = device.ask("GET", "/api/nodes/loner/frame.jpg")
    assert (answer.status, answer.json["error"]) == (404, 'node "loner": writes and reads no frames just now')


def test_nobody_listens_to_a_topic_that_nobody_looks_at() -> None:
    bus = LocalBus()
    messages = LatestMessages(lambda: bus, idle_s=0.1)
    assert messages.latest("/a", 0.0) is None
    assert bus.is_heard("/a")
    bus.publish("/a", b"1")
    sample = messages.latest("/a", 0.0)
    assert sample is not None
    assert sample.payload == b"1"
    wait_for(lambda: messages.topics == (), timeout_s=PATIENCE_S)
    wait_for(lambda: not bus.is_heard("/a"), timeout_s=PATIENCE_S)
    assert messages.latest("/a", 0.0) is None
