"""One run of real processes in which one node after the other gets its fault, and what became of each of them.

The faults overlap in time and are in different nodes: whoever is not meant must not notice.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mecha.project import bundled_dir, find_project
from mecha.runtime.bus import Bus
from mecha.runtime.dev import DevOptions, DevSummary, run_dev
from mecha.runtime.fault_log import FaultLog, fault_lines
from mecha.runtime.faults import Fault
from mecha.runtime.slowed import SLOWED_S
from mecha.runtime.supervisor import Supervisor
from tests.runtime.projects import add_node, configure
from tests.runtime.provisional import CATALOG, FP32, NAME, publish_provisional
from tests.runtime.rtsp_server import RtspCamera

# Each with the seconds after which docs/dev.md lets the node work again, 3 of them for its start.
STATED_S = {
    "slow-inference@1s:2s": 1.0,
    "camera-drop@4s:3s": 1.0,
    "camera-drop@1s:2s,node=street": 5.0,
    "node-crash@1s,node=crasher": 0.5 + 3.0,
    "node-hang@1s,node=hanger": 4.0 + 1.0 + 3.0,
    "bad-config@1s:3s,node=configured": 1.0,
    "disk-full@1s:3s,node=writer": 8.0 + 3.0,
    "disk-full@0s:4s": 1.0,
}
REQUESTS = tuple(STATED_S)
LASTING = ("pulse", "witness", "configured", "camera", "street", "object-detector")
"""They get no fault that ends them."""
MOST_MISSED = 3
"""Beats of one that lasts between two of another, on a machine that starts seven processes at once."""
BUSY_S = 30.0
"""What a machine with too much to do may take more."""
DEADLINE_S = 90.0
SETTINGS = """
[nodes.hanger]
heartbeat_s = 4

[self_calibration]
frames = 1024
period_s = 0.1
"""
WAITS = "[WARNING] object-detector: Self-calibration: waits until the disk takes frames again: "
TAKES = "[INFO] object-detector: Self-calibration: the disk takes frames again"

# Nothing is dropped of what is not a camera's: a number that is missing was lost.
PULSE = """
    from mecha.runtime.messages import JsonMessage
    from mecha.runtime.node import Node

    class Pulse(Node):
        outputs = {"/pulse": JsonMessage}

        def setup(self) -> None:
            self.seq = 0

        def step(self, message: None) -> None:
            self.wait(0.02)
            self.publish("/pulse", JsonMessage(self.seq))
            self.seq += 1

        def close(self) -> None:
            self.log.info("sent %d", self.seq)
"""

READER = """
    from mecha.runtime.messages import FrameMessage, JsonMessage
    from mecha.runtime.node import Node, NodeConfig

    class ReaderConfig(NodeConfig):
        word: str = "none"

    class Reader(Node[ReaderConfig]):
        config_model = ReaderConfig
        inputs = {"/pulse": JsonMessage}

        def setup(self) -> None:
            self.seen = []

        def step(self, message: JsonMessage) -> None:
            self.seen.append(message.data)

        def close(self) -> None:
            whole = self.seen == list(range(self.seen[0], self.seen[-1] + 1))
            self.log.info("%s, from %d on %s", self.config.word, self.seen[0], "all" if whole else "not all")
"""

WRITER = READER.replace(
    "self.seen.append(message.data)",
    'self.seen.append(message.data)\n            with (self.root / "written").open("a") as file:'
    '\n                file.write("x")',
)

WITNESS = READER.replace('{"/pulse": JsonMessage}', '{"/pulse": JsonMessage, "/camera/rgb": FrameMessage}').replace(
    "self.seen.append(message.data)",
    """if isinstance(message, JsonMessage):
                self.seen.append(message.data)
            else:
                self.report_inference(0.0, "FP32", message.seq)""",
)


@dataclass
class Told:
    """What a run told."""

    root: Path
    summary: DevSummary
    lines: list[str] = field(default_factory=list)
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def of(self, node: str, kind: str) -> list[dict[str, Any]]:
        return [event for _, event in self.events if (event.get("node"), event["event"]) == (node, kind)]

    def states(self, node: str) -> list[str]:
        return [event["state"] for event in self.of(node, "state")]

    def during(self, request: str, kind: str) -> list[dict[str, Any]]:
        """Events of a kind, of any node, from the beginning of a fault to its end or to the next work of its node."""
        node = Fault.parsed(request).node
        begun, ended = (
            next((index for index, (_, event) in enumerate(self.events) if _is_phase(event, request, phase)), None)
            for phase in ("begin", "end")
        )
        assert begun is not None, request
        if ended is None:
            ended = next(
                index
                for index, (_, event) in enumerate(self.events)
                if index > begun and event.get("node") == node and event.get("state") == "running"
            )
        return [event for _, event in self.events[begun:ended] if event["event"] == kind]


def _is_phase(event: dict[str, Any], request: str, phase: str) -> bool:
    return event["event"] == "fault" and (event["fault"], event["phase"]) == (request, phase)


@pytest.fixture(scope="module")
def stream() -> Iterator[str]:
    """A camera in the network."""
    with RtspCamera(fps=10) as camera:
        yield camera.address


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, stream: str) -> Path:
    root = tmp_path_factory.mktemp("faults") / "project"
    (root / "models").mkdir(parents=True)
    (root / "model_catalog.toml").write_text(CATALOG)
    for part in ("nodes", "configs"):
        shutil.copytree(bundled_dir() / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    # Its detector keeps frames to build INT8 from, so it writes.
    publish_provisional(root, FP32)
    configure(root, "object-detector", model=NAME, use_int8=True)
    configure(root, "camera", source="arena://?size=64x48&fps=15")
    configure(root, "street", source=stream)
    configure(root, "configured", word="configured")
    (root / "configs/common/mecha.toml").write_text(SETTINGS)
    street = (root / "nodes/camera/node.py").read_text().replace('"/camera/', '"/street/')
    programs = {"pulse": PULSE, "witness": WITNESS, "writer": WRITER, "street": street}
    programs |= dict.fromkeys(("crasher", "hanger", "configured"), READER)
    for name, program in programs.items():
        add_node(root, name, program)
    return root


@pytest.fixture(scope="module")
def told(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Run until every node that had a fault works again."""
    home = tmp_path_factory.mktemp("home")
    run_time = Path(tempfile.mkdtemp(prefix="mt-"))  # short enough for a socket
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MECHA_", "XDG_"))}
    environ |= {"HOME": str(home), "MECHA_CACHE_DIR": str(home / "cache"), "XDG_RUNTIME_DIR": str(run_time)}
    faults = tuple(Fault.parsed(request) for request in REQUESTS)
    log = FaultLog(faults)
    lines: list[str] = []
    events: list[tuple[float, dict[str, Any]]] = []
    supervisors: list[Supervisor] = []
    over = threading.Event()

    def begin(supervisor: Supervisor, _bus: Bus) -> None:
        supervisors.append(supervisor)

    def hear(line: str) -> None:
        lines.append(line)
        end()

    def take(event: dict[str, Any]) -> None:
        events.append((time.monotonic(), event))
        log.take(event)
        end()

    def end() -> None:
        if TAKES in lines and all(record.recovery_s is not None for record in log.records):
            stop()

    def stop() -> None:
        # Asked twice, a supervisor waits for nobody.
        if not over.is_set():
            over.set()
            supervisors[0].stop()

    late = threading.Timer(DEADLINE_S, stop)
    late.start()
    try:
        summary = run_dev(
            find_project(project, environ),
            (),
            DevOptions(faults=faults),
            hear,
            take,
            on_begin=begin,
            environ=environ,
        )
    finally:
        late.cancel()
        shutil.rmtree(run_time)
    return Told(project, summary, lines, events)


def test_every_fault_comes_and_every_node_works_again(told: Told) -> None:
    records = told.summary.to_json()["faults"]

    assert [(record["fault"], record["begun"]) for record in records] == [(request, True) for request in REQUESTS]
    late = [
        record
        for record in records
        if record["recovery_s"] is None or record["recovery_s"] > STATED_S[record["fault"]] + BUSY_S
    ]
    assert late == []
    assert [line.rpartition(" s after ")[2] for line in fault_lines(records)] == [
        "it came" if "node=crasher" in request or "node=hanger" in request else "its end" for request in REQUESTS
    ]
    assert (told.summary.exit_code, told.summary.failure) == (0, "")


@pytest.mark.parametrize("node", LASTING)
def test_whoever_is_not_meant_never_misses_a_beat(told: Told, node: str) -> None:
    """They are never started again, and tell that they live while others do not."""
    assert told.states(node) == ["starting", "ready", "running", "stopping", "ended"]
    assert told.summary.nodes[node].restarts == 0
    beats = [str(event["node"]) for _, event in told.events if event["event"] == "stats"]
    assert beats.count(node) >= len(REQUESTS)
    # Once a second each; what slows the machine slows them all, so a silence is measured by the beats of the others.
    own = [index for index, name in enumerate(beats) if name == node]
    for before, after in pairwise(own):
        silence = beats[before:after]
        assert max(silence.count(other) for other in LASTING if other != node) <= MOST_MISSED, silence


@pytest.mark.parametrize("node", ["witness", "configured"])
def test_whoever_is_not_meant_gets_every_message(told: Told, node: str) -> None:
    assert f"[INFO] {node}: {'none' if node == 'witness' else node}, from 0 on all" in told.lines
    assert f"[INFO] pulse: sent {told.summary.nodes[node].frames}" in told.lines
    # The witness sees frames too, of which the newest wins where this machine is busy.
    assert node == "witness" or told.summary.nodes[node].dropped == 0


def test_a_dropped_camera_is_stale_until_it_is_back_and_loses_no_number(told: Told) -> None:
    (lost,) = [line for line in told.lines if line.startswith("[ERROR] camera: ")]
    assert lost.endswith("; what comes from here is stale until it is back")
    assert any(line.startswith("[INFO] camera: ") and " is back after " in line for line in told.lines)
    stale = [event["stale"] for event in told.of("camera", "stats")]
    assert stale[0] is stale[-1] is False
    assert True in stale
    # Numbers only rise, also of what the witness saw after it.
    seen = [event["frame"] for event in told.of("witness", "inference")]
    assert seen == sorted(set(seen))
    assert told.summary.nodes["camera"].frames > 0


def test_a_dropped_camera_in_the_network_is_opened_again(told: Told) -> None:
    (lost,) = [line for line in told.lines if line.startswith("[ERROR] street: ")]
    assert lost.startswith("[ERROR] street: rtsp://127.0.0.1:")
    assert lost.endswith("/live: no frame comes any more; what comes from here is stale until it is back")
    assert any(line.startswith("[INFO] street: ") and " is back after " in line for line in told.lines)
    assert True in [event["stale"] for event in told.of("street", "stats")]


def test_a_node_that_crashes_is_started_again_once(told: Told) -> None:
    assert told.states("crasher")[:6] == ["starting", "ready", "running", "restarting", "starting", "ready"]
    assert told.summary.nodes["crasher"].restarts == 1
    ending = "it is started again in 0.5 s"
    assert [event["message"] for event in told.of("crasher", "error")] == [f"ended with signal SIGKILL; {ending}"]


def test_a_node_that_hangs_is_killed_and_started_again_once(told: Told) -> None:
    states = told.states("hanger")
    assert states[:7] == ["starting", "ready", "running", "hung", "restarting", "starting", "ready"]
    assert told.summary.nodes["hanger"].restarts == 1
    assert any("no sign of life for 4 s; it is killed (" in event["message"] for event in told.of("hanger", "error"))


def test_slow_inference_takes_its_time_in_the_session_and_no_longer_than_asked_for(told: Told) -> None:
    during = [event["ms"] for event in told.during(REQUESTS[0], "inference") if event["node"] == "object-detector"]
    every = [event["ms"] for event in told.of("object-detector", "inference")]

    # The first may have been under way, and the last ones have come before its end was told.
    assert sum(ms >= SLOWED_S * 1e3 for ms in during) >= 2
    assert min(every[-3:]) < SLOWED_S * 1e3


def test_a_bad_config_is_told_with_its_line_and_what_runs_stays(told: Told) -> None:
    errors = [event["message"] for event in told.of("configured", "error")]
    file = "configs/common/nodes/configured/config.json"

    assert errors[0].startswith(f"{file}:2:11: not JSON: ")
    assert errors[1:] == ["The node keeps the config it runs with; correct the file and save it."]
    assert (told.root / file).read_text() == '{\n  "word": "configured"\n}'


def test_a_full_disk_ends_a_node_that_cannot_do_without_until_it_takes_something_again(told: Told) -> None:
    errors = [event["message"] for event in told.of("writer", "error")]

    assert errors[0].startswith("OSError: [Errno 28] No space left on device: ")
    assert told.summary.nodes["writer"].restarts >= 1
    assert set((told.root / "written").read_text()) == {"x"}
    assert told.states("writer")[-3:] == ["running", "stopping", "ended"]


def test_a_detector_does_not_mind_a_full_disk_and_keeps_frames_when_it_can_again(told: Told) -> None:
    waits = next(index for index, line in enumerate(told.lines) if line.startswith(WAITS))

    assert "no space left" in told.lines[waits]
    assert TAKES in told.lines[waits:]
    assert [event for event in told.during("disk-full@0s:4s", "inference") if event["node"] == "object-detector"]
