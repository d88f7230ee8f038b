"""What a node is, and its life."""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from mecha.errors import ConfigError
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.events import Events
from mecha.runtime.messages import ControlMessage, FrameMessage, JsonMessage, Message
from mecha.runtime.node import Node, NodeConfig, NodeContext
from tests.runtime.echo import Bench, Echo, EchoConfig, running
from tests.runtime.waiting import wait_for

if TYPE_CHECKING:
    from mecha.runtime.bus import Sample


def test_a_node_is_set_up_fed_and_closed(tmp_path: Path) -> None:
    with running(Echo, tmp_path) as bench:
        heard: list[Sample] = []
        bench.bus.subscribe("/echo", heard.append)
        for seq in range(3):
            bench.send_frame(seq)
            wait_for(lambda seq=seq: len(heard) == seq + 1)  # type: ignore[misc]

    assert Echo.life == ["setup", 0, 1, 2, "close"]
    assert [sample.payload for sample in heard] == [b"0", b"1", b"2"]
    assert bench.events("ready") == [
        {"event": "ready", "node": "echo", "inputs": ["/camera/rgb", "/control"], "outputs": ["/echo"]}
    ]
    last = bench.events("stats")[-1]
    assert (last["frames"], last["dropped"]) == (3, 0)
    assert last["p95_ms"] >= last["p50_ms"] > 0
    assert last["rss_mb"] > 1


def test_a_busy_node_gets_the_newest_frame_and_counts_those_it_missed(tmp_path: Path) -> None:
    with running(Echo, tmp_path) as bench:
        bench.send_frame(50)
        wait_for(lambda: 50 in Echo.life)
        for seq in range(51, 61):
            bench.send_frame(seq)
        bench.bus.publish("/control", b'{"enabled": false}')
        Echo.stuck.set()
        wait_for(lambda: 60 in Echo.life)

    assert Echo.life == ["setup", 50, ControlMessage(enabled=False), 60, "close"]
    last = bench.events("stats")[-1]
    assert (last["frames"], last["dropped"]) == (2, 9)


class Picky(Node[NodeConfig]):
    inputs: ClassVar = {"/camera/rgb": FrameMessage}

    def step(self, message: FrameMessage) -> None:
        if message.seq % 3:
            self.leave_out()


def test_frames_that_are_left_out_count_as_dropped(tmp_path: Path) -> None:
    with running(Picky, tmp_path) as bench:
        for seq in range(9):
            bench.send_frame(seq)
            wait_for(lambda: not bench.loop._inbox._newest)
    last = bench.events("stats")[-1]

    assert (last["frames"], last["dropped"]) == (3, 6)


@pytest.mark.parametrize(
    ("from_the_first", "seq", "dropped"),
    [(True, 2, 2), (False, 2, 0), (True, 5000, 0)],
    ids=["lost on their way", "before this node", "before this run"],
)
def test_frames_before_the_first_one_count_for_a_node_that_was_there(
    tmp_path: Path, from_the_first: bool, seq: int, dropped: int
) -> None:
    with running(Picky, tmp_path, from_the_first=from_the_first) as bench:
        bench.send_frame(seq)
        wait_for(lambda: bench.loop._taken)
    last = bench.events("stats")[-1]

    # This node leaves out what is no multiple of 3.
    assert last["dropped"] == dropped + 1


def test_what_a_node_does_less_is_told_and_stands_in_its_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running(Picky, tmp_path) as bench:
        bench.loop._node.report_degrade("", "skip 1", "it is hot", down=True)
        bench.loop._node.vitals.tell()
        degraded = bench.events("stats")[-1]["degraded"]
        bench.loop._node.report_degrade("skip 1", "", "there is room again", down=False)

    assert degraded == "skip 1"
    assert bench.events("stats")[-1]["degraded"] == ""
    assert bench.events("degrade")[0] == {
        "event": "degrade",
        "node": "echo",
        "from": "",
        "to": "skip 1",
        "reason": "it is hot",
    }
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Degrading: as configured -> skip 1 (it is hot)"),
        ("INFO", "Degrading: skip 1 -> as configured (there is room again)"),
    ]


def test_what_arrived_before_the_stop_is_worked_off(tmp_path: Path) -> None:
    with running(Echo, tmp_path) as bench:
        bench.send_frame(50)
        wait_for(lambda: 50 in Echo.life)
        bench.send_frame(51)
        bench.stopping.set()
        Echo.stuck.set()

    assert Echo.life == ["setup", 50, 51, "close"]


def test_a_node_that_raises_is_closed_and_its_error_goes_on(tmp_path: Path) -> None:
    with running(Echo, tmp_path) as bench:
        bench.send_frame(13)
        bench.thread.join(10)

    assert isinstance(bench.raised, ValueError)
    assert Echo.life == ["setup", 13, "close"]


def test_a_node_that_has_finished_ends(tmp_path: Path) -> None:
    with running(Echo, tmp_path) as bench:
        bench.send_frame(99)
        bench.thread.join(10)
        assert not bench.thread.is_alive()

    assert bench.raised is None


def test_a_changed_config_comes_between_two_steps(tmp_path: Path) -> None:
    with running(Echo, tmp_path) as bench:
        bench.send_frame(1)
        wait_for(lambda: 1 in Echo.life)
        (tmp_path / "config.json").write_text('{"loud": true}')
        wait_for(lambda: (False, True) in Echo.life)
        bench.send_frame(2)
        wait_for(lambda: 2 in Echo.life)

    assert Echo.life == ["setup", 1, (False, True), 2, "close"]


def test_a_message_that_is_none_is_told_once_and_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(Echo, tmp_path) as bench:
        for _ in range(3):
            bench.bus.publish("/control", b'{"use_int9": true}')
        bench.send_frame(1)
        wait_for(lambda: 1 in Echo.life)

    assert [record.getMessage() for record in caplog.records] == [
        '/control:1: use_int9: unknown key; did you mean "use_int8"?'
    ]
    assert Echo.life == ["setup", 1, "close"]


def test_a_node_waits_until_the_others_are_ready(tmp_path: Path) -> None:
    class Source(Node[NodeConfig]):
        outputs: ClassVar[dict[str, type[Message]]] = {"/camera/rgb": FrameMessage}

        def step(self, message: None) -> None:
            self.publish("/camera/rgb", FrameMessage(np.zeros((2, 2, 3), np.uint8), 0, 0))
            self.finish()

    bench = Bench(Source, tmp_path, LocalBus())
    heard: list[Sample] = []
    bench.bus.subscribe("/camera/rgb", heard.append)
    bench.thread.start()
    wait_for(lambda: bench.events("ready"))
    assert heard == []

    bench.go.set()
    bench.thread.join(10)

    assert len(heard) == 1
    assert bench.events("stats")[-1]["frames"] == 1


def test_a_node_publishes_only_what_it_names(tmp_path: Path) -> None:
    context = NodeContext("echo", tmp_path, LocalBus(), Events("echo"), logging.getLogger("echo"), threading.Event())
    node = Echo(context, EchoConfig())

    for topic, message in (("/ehco", JsonMessage(1)), ("/echo", ControlMessage())):
        with pytest.raises(ConfigError) as caught:
            node.publish(topic, message)
        assert str(caught.value) == (
            f"echo: got a {type(message).__name__} for {topic}; expected one of its outputs: /echo (JsonMessage)"
        )
