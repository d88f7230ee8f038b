"""A node in a test: fed and read step by step, by hand."""

import logging
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mecha import ControlMessage, Field, FrameMessage, JsonMessage, Message, Node, NodeConfig
from mecha.errors import ConfigError, IntegrityError, NotFoundError
from mecha.project import bundled_dir
from mecha.runtime.events import Swap
from mecha.store.models import ModelStore
from mecha.testing import NodeHarness, detections, found, frame
from tests.detect.blob_detector import RED, scene
from tests.detect.published_blobs import publish_blobs
from tests.runtime.projects import COUNTER, TICKER, add_node
from tests.runtime.waiting import wait_for


class EchoConfig(NodeConfig):
    at_least: int = Field(0, ge=0)
    words: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it


class Echo(Node[EchoConfig]):
    """Writes down all that happens to it."""

    config_model = EchoConfig
    inputs: ClassVar[dict[str, type[Message]]] = {"/camera/rgb": FrameMessage, "/control": ControlMessage}
    outputs: ClassVar[dict[str, type[Message]]] = {"/echo": JsonMessage}

    def setup(self) -> None:
        self.life: list[Any] = ["setup"]

    def configure(self, previous: EchoConfig) -> None:
        self.life.append((previous.at_least, self.config.at_least))

    def step(self, message: FrameMessage | ControlMessage) -> None:
        if isinstance(message, ControlMessage):
            self.log.info("told %s", message.enabled)
            return
        assert not message.frame_bgr.flags.writeable
        if message.seq == 13:
            raise ValueError("thirteen")
        if message.seq >= self.config.at_least:
            self.publish("/echo", JsonMessage((message.seq, str(message.frame_bgr.shape))))

    def close(self) -> None:
        self.life.append("close")


class Patient(Node[NodeConfig]):
    """Publishes every ten seconds, three times."""

    outputs: ClassVar[dict[str, type[Message]]] = {"/tick": JsonMessage}

    def setup(self) -> None:
        self.ticks = 0

    def step(self, message: None) -> None:
        if self.wait(10):
            self.log.info("disturbed")
            return
        self.publish("/tick", JsonMessage(self.ticks))
        self.report_inference(1.5, "FP32", self.ticks)
        self.ticks += 1
        if self.ticks == 3:
            self.finish()


def test_a_node_is_fed_and_what_it_published_is_read_once() -> None:
    with NodeHarness(Echo) as echo:
        echo.feed("/camera/rgb", frame(1))
        echo.feed("/camera/rgb", frame(2, width=5, height=4))

        # As it comes out of a bus: JSON knows no tuples.
        assert echo.read("/echo") == [JsonMessage([1, "(48, 64, 3)"]), JsonMessage([2, "(4, 5, 3)"])]
        assert echo.read("/echo") == []
        life = echo.node.life  # type: ignore[attr-defined]

    assert life == ["setup", "close"]


def test_the_config_changes_between_two_steps() -> None:
    with NodeHarness(Echo, {"at_least": 2, "words": {"a": "b"}}) as echo:
        echo.feed("/camera/rgb", frame(1))
        echo.configure({"at_least": 1})
        echo.configure({"at_least": 1})
        echo.configure({"words": {"c": "d"}})
        echo.feed("/camera/rgb", frame(1))

        assert len(echo.read("/echo")) == 1
        assert echo.node.life == ["setup", (2, 1), (1, 1)]  # type: ignore[attr-defined]
        assert echo.node.config == EchoConfig(at_least=1, words={"a": "b", "c": "d"})


def test_a_faulty_config_is_refused_and_the_one_before_stays() -> None:
    with pytest.raises(ConfigError) as caught:
        NodeHarness(Echo, {"at_last": 1})
    assert str(caught.value) == 'config:1: at_last: unknown key; did you mean "at_least"?'

    with NodeHarness(Echo, {"at_least": 1}) as echo:
        with pytest.raises(ConfigError) as caught:
            echo.configure({"at_least": "many"})
        echo.configure({"words": {}})
        assert echo.node.config == EchoConfig(at_least=1)
    assert str(caught.value) == 'config:1: at_least: got "many"; expected a whole number'


def test_what_a_step_raises_comes_out_and_the_node_is_closed() -> None:
    echo = NodeHarness(Echo)
    with pytest.raises(ValueError, match="thirteen"), echo:
        echo.feed("/camera/rgb", frame(13))

    assert echo.node.life == ["setup", "close"]  # type: ignore[attr-defined]


def test_a_source_steps_until_it_has_finished_and_nobody_waits() -> None:
    with NodeHarness(Patient) as patient:
        patient.step()
        assert (patient.read("/tick"), patient.waited_s) == ([JsonMessage(0)], 10)
        patient.step(100)
        assert (len(patient.read("/tick")), patient.waited_s, patient.finished) == (2, 30, True)
        inferences = patient.events("inference")

    assert [event["frame"] for event in inferences] == [0, 1, 2]
    # Once a second by the clock of the test.
    assert patient.lines == ["[INFO] patient: Inference: 1.5 ms (FP32)"] * 3


def test_a_node_without_a_step_does_not_keep_the_processor_busy() -> None:
    class Idle(Node[NodeConfig]): ...

    with NodeHarness(Idle) as idle:
        idle.step(4)

    assert idle.waited_s == 2


def test_a_node_that_waits_is_told_to_end() -> None:
    with NodeHarness(Patient) as patient:
        patient.stop()
        patient.step()

    assert (patient.lines, patient.waited_s) == (["[INFO] patient: disturbed"], 0)


def test_the_log_of_other_tests_stays_as_it_was() -> None:
    log = logging.getLogger("echo")
    before = (log.level, list(log.handlers))

    with NodeHarness(Echo) as echo:
        echo.feed("/control", ControlMessage(enabled=True))
        echo.node.report_swap(Swap("FP32", "INT8", 35.1, 18.2))

    assert echo.lines == ["[INFO] echo: told True", "[INFO] echo: FP32 35.1 ms -> INT8 18.2 ms"]
    assert (log.level, log.handlers) == before


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda echo: echo.feed("/camera", frame()),
            "echo: got a FrameMessage for /camera; "
            "expected one of its inputs: /camera/rgb (FrameMessage), /control (ControlMessage)",
        ),
        (
            lambda echo: echo.feed("/control", frame()),
            "echo: got a FrameMessage for /control; "
            "expected one of its inputs: /camera/rgb (FrameMessage), /control (ControlMessage)",
        ),
        (lambda echo: echo.read("/ehco"), "echo: got /ehco; expected one of its outputs: /echo (JsonMessage)"),
        (
            lambda echo: echo.step(),
            "echo: got a step without a message; "
            "expected one of its inputs: /camera/rgb (FrameMessage), /control (ControlMessage)",
        ),
    ],
)
def test_what_the_node_does_not_name_is_refused_with_a_sentence(call: Any, sentence: str) -> None:
    with NodeHarness(Echo) as echo, pytest.raises(ConfigError) as caught:
        call(echo)

    assert str(caught.value) == sentence


def test_a_message_that_could_not_travel_fails_in_the_test_too() -> None:
    half = FrameMessage(np.zeros((4, 4), np.uint8), 0, 0)

    with NodeHarness(Echo) as echo, pytest.raises(IntegrityError) as caught:
        echo.feed("/camera/rgb", half)

    assert str(caught.value) == "/camera/rgb: got 16 bytes; expected 48 for 4x4 pixels BGR"


def test_a_node_outside_of_its_block_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="use NodeHarness in a `with` block"):
        NodeHarness(Echo).feed("/camera/rgb", frame())


# Nodes by their folder


def test_a_node_of_a_project_runs_in_its_root(tmp_path: Path) -> None:
    add_node(tmp_path, "ticker", TICKER)
    add_node(tmp_path, "frame-counter", COUNTER)
    here = Path.cwd()

    with (
        NodeHarness(tmp_path / "nodes" / "ticker", {"frames": 2}) as ticker,
        NodeHarness(tmp_path / "nodes" / "frame-counter") as counter,
    ):
        assert Path.cwd() == ticker.root == counter.root == tmp_path
        ticker.step(5)
        for message in ticker.read("/camera/rgb"):
            counter.feed("/camera/rgb", message)
        assert counter.read("/count") == [JsonMessage(1), JsonMessage(2)]

    assert Path.cwd() == here
    assert counter.lines[-1] == "[INFO] frame-counter: saw 2 frames, the last was [1]"


def test_modules_beside_a_node_are_its_own(tmp_path: Path) -> None:
    program = "from mecha import Node\nfrom sizes import SIZE\nclass A(Node):\n  size = SIZE\n"
    before = list(sys.path)

    for name, size in (("one", 1), ("two", 2)):
        file = add_node(tmp_path, name, program)
        (file.parent / "sizes.py").write_text(f"SIZE = {size}\n")
        with NodeHarness(file.parent) as node:
            assert node.node.size == size  # type: ignore[attr-defined]

    assert "sizes" not in sys.modules
    assert sys.path == before


def test_a_folder_without_a_node_names_the_nearest(tmp_path: Path) -> None:
    add_node(tmp_path, "ticker", TICKER)

    with pytest.raises(NotFoundError) as caught:
        NodeHarness(tmp_path / "nodes" / "tikcer")

    assert str(caught.value).endswith('nodes/tikcer/node.py is no file; did you mean "ticker"?')


def ended(source: NodeHarness) -> bool:
    source.step()
    return source.finished


def test_the_camera_and_the_detector_run_in_it(tmp_path: Path) -> None:
    shutil.copytree(bundled_dir() / "nodes", tmp_path / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "model_catalog.toml").touch()
    (tmp_path / "models").mkdir()
    publish_blobs(ModelStore(tmp_path / "models"))

    with NodeHarness(tmp_path / "nodes" / "camera", {"source": "arena://?frames=2&size=64x48"}) as camera:
        wait_for(lambda: ended(camera), what="the end of the source")
        frames = camera.read("/camera/rgb")
    with NodeHarness(tmp_path / "nodes" / "object-detector", {"model": "blobs"}) as detector:
        detector.feed("/camera/rgb", frame(7, pixels=scene((8, 8, 8, RED))))
        (result,) = detector.read("/vision/object/detections")

    assert [one.seq for one in frames] == [0, 1]
    assert (result.frame, result.model, [one["label"] for one in result.detections]) == (7, "blobs", ["red"])
    assert detector.events("inference")[0]["precision"] == "FP32"


def test_messages_for_tests_say_what_a_test_needs() -> None:
    message = detections("cone", found("ball", score=0.5, box=(1, 2, 3, 4), class_id=1), frame=7, width=8, height=6)

    assert (message.frame, message.width, message.height) == (7, 8, 6)
    assert message.detections == [
        {"label": "cone", "class_id": 0, "score": 0.9, "box": [8.0, 8.0, 24.0, 24.0]},
        {"label": "ball", "class_id": 1, "score": 0.5, "box": [1.0, 2.0, 3.0, 4.0]},
    ]
    assert frame(3).frame_bgr.shape == (48, 64, 3)
