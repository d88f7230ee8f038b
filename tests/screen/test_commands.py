"""What keys do to the nodes."""

import json
from pathlib import Path

from mecha.cli.screen.commands import CONTROL, Commands
from mecha.cli.screen.keys import Action
from mecha.cli.screen.state import NodeRow
from mecha.project import find_project
from mecha.runtime.bus.local import LocalBus
from tests.runtime.projects import configure, make_project

CAMERA, DETECTOR = NodeRow("camera", state="running"), NodeRow("object-detector", state="running", precision="FP32")


class Control:
    """A supervisor that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def stop(self) -> None:
        self.told.append("stop")

    def restart(self, node: str) -> None:
        self.told.append(f"restart {node}")

    def pause(self, node: str) -> None:
        self.told.append(f"pause {node}")

    def resume(self, node: str) -> None:
        self.told.append(f"resume {node}")


class Desk:
    """Commands of a project, with what they lead to."""

    def __init__(self, root: Path) -> None:
        self.root = make_project(root)
        self.control = Control()
        self.sent: list[dict[str, object]] = []
        bus = LocalBus()
        bus.subscribe(CONTROL, lambda sample: self.sent.append(json.loads(sample.payload)))
        self.commands = Commands(self.control, bus, find_project(self.root, {}), {})

    def do(self, action: Action, row: NodeRow = DETECTOR) -> str:
        return self.commands.do(action, row, [DETECTOR])


def test_the_supervisor_is_told_about_the_chosen_node(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    assert desk.do(Action.PAUSE, CAMERA) == "camera is paused; p lets it go on"
    assert desk.do(Action.PAUSE, NodeRow("camera", state="paused")) == "camera goes on"
    assert desk.do(Action.RESTART, CAMERA) == "camera is started again"
    desk.commands.stop()
    assert desk.control.told == ["pause camera", "resume camera", "restart camera", "stop"]


def test_int8_is_asked_for_where_fp32_runs_and_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    assert desk.do(Action.INT8) == '/vision/object/control: {"use_int8":true}'
    # The model may still be loading: the next key means the opposite of what was asked for.
    assert desk.do(Action.INT8) == '/vision/object/control: {"use_int8":false}'
    assert desk.sent == [{"use_int8": True}, {"use_int8": False}]


def test_what_config_json_says_since_counts_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    configure(desk.root, "object-detector", use_int8="auto")
    desk.do(Action.INT8)
    configure(desk.root, "object-detector", use_int8=True)
    desk.do(Action.INT8)
    # Another key changes nothing about what was said.
    configure(desk.root, "object-detector", use_int8=True, score_threshold=0.5)
    desk.do(Action.INT8)

    assert desk.sent == [{"use_int8": True}, {"use_int8": False}, {"use_int8": True}]


def test_degrading_and_self_calibration_are_switched_from_what_they_are(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.commands.in_words([DETECTOR]) == {}

    desk.do(Action.DEGRADE)
    desk.do(Action.CALIBRATE)
    assert desk.sent == [{"degrade": True}, {"self_calibrate": False}]
    assert desk.commands.in_words([DETECTOR]) == {"degrade": "degrading on", "self_calibrate": "self-calibration off"}
    configure(desk.root, "object-detector", degrade=True, self_calibrate=False)
    desk.do(Action.DEGRADE)
    desk.do(Action.CALIBRATE)
    assert desk.sent[2:] == [{"degrade": False}, {"self_calibrate": True}]
    assert desk.commands.in_words([DETECTOR]) == {}


def test_a_config_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    file = configure(desk.root, "object-detector")
    for text in ('{"use_int8": tr', "[1]", '"x"'):
        file.write_text(text)
        assert desk.commands.in_words([DETECTOR]) == {}
    file.unlink()
    file.mkdir()

    assert desk.do(Action.INT8) == '/vision/object/control: {"use_int8":true}'


def test_without_a_detector_nothing_is_sent(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    assert desk.commands.do(Action.INT8, CAMERA, []) == "no node runs a model yet"
    assert desk.sent == []
