"""What a node is, and its life."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mecha.errors import ConfigError, NodeError, NotFoundError
from mecha.runtime.bus import Bus, Sample
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.events import Events, Swap, prefixed
from mecha.runtime.live import LiveConfig
from mecha.runtime.loop import NodeLoop
from mecha.runtime.messages import ControlMessage, FrameMessage, JsonMessage, Message
from mecha.runtime.node import Node, NodeConfig, NodeContext, Rate
from mecha.runtime.program import load_node, node_names
from mecha.runtime.timing import Gaps, Timings, percentile
from tests.runtime.projects import COUNTER, TICKER, add_node, make_project
from tests.runtime.waiting import wait_for


class EchoConfig(NodeConfig):
    loud: bool = False


class Echo(Node[EchoConfig]):
    """Writes down all that happens to it."""

    config_model = EchoConfig
    inputs: ClassVar[dict[str, type[Message]]] = {"/camera/rgb": FrameMessage, "/control": ControlMessage}
    outputs: ClassVar[dict[str, type[Message]]] = {"/echo": JsonMessage}
    life: ClassVar[list[Any]] = []
    stuck: ClassVar[threading.Event] = threading.Event()

    def setup(self) -> None:
        self.life.append("setup")

    def configure(self, previous: EchoConfig) -> None:
        self.life.append((previous.loud, self.config.loud))

    def step(self, message: FrameMessage | ControlMessage) -> None:
        if isinstance(message, ControlMessage):
            self.life.append(message)
            return
        self.life.append(message.seq)
        self.publish("/echo", JsonMessage(message.seq))
        if message.seq == 13:
            raise ValueError("thirteen")
        if message.seq == 99:
            self.finish()
        if message.seq == 50:
            self.stuck.wait(10)

    def close(self) -> None:
        self.life.append("close")


class Bench:
    """A node in a thread, with both ends of its bus in hand."""

    def __init__(self, node_class: type[Node[Any]], root: Path, bus: Bus, *, from_the_first: bool = False) -> None:
        self.bus = bus
        self.raised: BaseException | None = None
        self.go = threading.Event()
        self.pipe = io.BytesIO()
        self.stopping = threading.Event()
        log = logging.getLogger("echo")
        self.context = NodeContext("echo", root, bus, Events("echo", self.pipe), log, self.stopping)
        live = LiveConfig(node_class.config_model, (root / "config.json",), root, {}, log=log, on_change=self.wake)
        self.loop = NodeLoop(node_class, self.context, live, self.go, from_the_first=from_the_first)
        self.thread = threading.Thread(target=self._run)

    def wake(self) -> None:
        self.loop.wake()

    def _run(self) -> None:
        try:
            self.loop.run()
        except ValueError as error:
            self.raised = error

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.pipe.getvalue().splitlines()]
        return [line for line in lines if line["event"] == kind]

    def send_frame(self, seq: int) -> None:
        payload, attachment = FrameMessage(np.zeros((2, 2, 3), np.uint8), seq, 0).encode()
        self.bus.publish("/camera/rgb", payload, attachment)

    def stop(self) -> None:
        self.stopping.set()
        self.loop.wake()
        self.thread.join(10)
        assert not self.thread.is_alive()


@contextmanager
def running(node_class: type[Node[Any]], root: Path, *, from_the_first: bool = False) -> Iterator[Bench]:
    Echo.life = []
    Echo.stuck = threading.Event()
    bench = Bench(node_class, root, LocalBus(), from_the_first=from_the_first)
    bench.go.set()
    bench.thread.start()
    wait_for(lambda: bench.events("ready"))
    try:
        yield bench
    finally:
        Echo.stuck.set()
        bench.stop()


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


def test_inference_is_an_event_each_time_and_a_line_once_a_second(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipe = io.BytesIO()
    log = logging.getLogger("object-detector")
    context = NodeContext("object-detector", tmp_path, LocalBus(), Events("n", pipe), log, threading.Event())
    node = Echo(context, EchoConfig())

    for frame in range(4):
        node.report_inference(35.14, "FP32", frame)
    node.report_swap(Swap("FP32", "INT8", 35.14, 18.2))
    for frame in range(4, 8):
        node.report_inference(18.21, "INT8", frame)

    assert [record.getMessage() for record in caplog.records] == [
        "Inference: 35.1 ms (FP32)",
        "FP32 35.1 ms -> INT8 18.2 ms",
        "Inference: 18.2 ms (INT8)",
    ]
    lines = [json.loads(line) for line in pipe.getvalue().splitlines()]
    assert [line["frame"] for line in lines if line["event"] == "inference"] == list(range(8))
    assert lines[0] == {"event": "inference", "node": "n", "ms": 35.14, "precision": "FP32", "frame": 0}
    assert lines[4] == {
        "event": "swap",
        "node": "n",
        "from": "FP32",
        "to": "INT8",
        "before_ms": 35.14,
        "after_ms": 18.2,
    }


def test_a_rate_lets_one_through_in_its_period_and_every_change() -> None:
    now = [0.0]
    rate = Rate(1.0, clock=lambda: now[0])
    due = []
    for moment, about in [(0, "a"), (0.5, "a"), (0.6, "b"), (0.7, "a"), (1.6, "a"), (1.7, "a"), (2.7, "a")]:
        now[0] = moment
        due.append(rate.due(about))

    assert due == [True, False, True, True, False, True, True]


def test_every_line_of_a_text_has_the_prefix() -> None:
    assert prefixed("ERROR", "camera", "one\n\ntwo\n") == "[ERROR] camera: one\n[ERROR] camera:\n[ERROR] camera: two"
    assert prefixed("INFO", "camera", "") == "[INFO] camera:"


def test_events_that_nobody_reads_any_more_harm_nobody() -> None:
    class Closed(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError

    events = Events("n", Closed())

    events.error("one")
    events.error("two")


@pytest.mark.parametrize(
    ("values", "p50", "p95"),
    [([], None, None), ([3.0], 3.0, 3.0), ([2.0, 1.0], 1.0, 2.0), ([float(n) for n in range(1, 101)], 50.0, 95.0)],
)
def test_percentiles_are_values_that_occurred(values: list[float], p50: float | None, p95: float | None) -> None:
    assert (percentile(values, 0.5), percentile(values, 0.95)) == (p50, p95)
    timings = Timings()
    for value in values:
        timings.add(value)
    assert (timings.p50_ms, timings.p95_ms) == (p50, p95)


def test_missing_frames_are_counted_and_a_restarted_camera_is_not_a_gap() -> None:
    gaps = Gaps()

    missed = [gaps.missed("a", seq) for seq in (5, 6, 9, 0, 1, 4)]

    assert missed == [0, 0, 2, 0, 0, 2]
    assert gaps.missed("b", 100) == 0


# Programs


def test_the_nodes_of_a_project_are_found_and_loaded(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, frame_counter=COUNTER)
    (root / "nodes" / "notes").mkdir()

    assert node_names(root / "nodes") == ("frame-counter", "ticker")
    assert load_node(root / "nodes", "ticker").__name__ == "Ticker"
    assert list(load_node(root / "nodes", "frame-counter").inputs) == ["/camera/rgb"]


def test_a_node_imports_modules_beside_it(tmp_path: Path) -> None:
    root = make_project(tmp_path, sized="from size_of_sized import SIZE\nfrom mecha.runtime.node import Node\n")
    with (root / "nodes/sized/node.py").open("a") as stream:
        stream.write("class Sized(Node):\n    size = SIZE\n")
    (root / "nodes/sized/size_of_sized.py").write_text("SIZE = 7\n")

    assert vars(load_node(root / "nodes", "sized"))["size"] == 7


def test_of_nodes_that_derive_from_each_other_the_last_is_meant(tmp_path: Path) -> None:
    root = make_project(
        tmp_path,
        derived="""
        from mecha.runtime.node import Node

        class First(Node): ...

        class Second(First): ...
        """,
    )

    assert load_node(root / "nodes", "derived").__name__ == "Second"


def test_an_unknown_node_names_the_nearest(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)

    with pytest.raises(NotFoundError) as caught:
        load_node(root / "nodes", "tikcer")

    assert str(caught.value) == (f'no node "tikcer": {root}/nodes/tikcer/node.py is no file; did you mean "ticker"?')
    assert caught.value.hint == "The nodes here are counter or ticker."


def test_a_project_without_nodes_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        load_node(tmp_path / "nodes", "camera")

    assert caught.value.hint == "`mecha init` lays out a project with nodes."


@pytest.mark.parametrize(
    ("program", "expected", "sentence"),
    [
        ("x = (", NodeError, "cannot be imported: SyntaxError: '(' was never closed ({program}:1)"),
        ("import nonsense_of_a_node", NodeError, "cannot be imported: ModuleNotFoundError: No module named"),
        ("\nx = 1 / 0", NodeError, "cannot be imported: ZeroDivisionError: division by zero ({program}:2)"),
        (
            "x = 1",
            ConfigError,
            "got no class that derives from Node; expected one class that derives from mecha.Node",
        ),
        (
            "from mecha.runtime.node import Node\nclass A(Node): ...\nclass B(Node): ...",
            ConfigError,
            "got A or B; expected one class that derives from mecha.Node",
        ),
    ],
)
def test_a_program_that_is_no_node_is_refused_with_a_sentence(
    tmp_path: Path, program: str, expected: type[Exception], sentence: str
) -> None:
    root = make_project(tmp_path)
    file = add_node(root, "broken", program)

    with pytest.raises(expected) as caught:
        load_node(root / "nodes", "broken")

    assert str(caught.value).startswith(f"{file}: {sentence.format(program=file)}")
