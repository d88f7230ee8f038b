"""docs/nodes.md says what is."""

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecha import Node, NodeConfig
from mecha.errors import ConfigError
from mecha.project import BusSettings, bundled_dir
from mecha.runtime.bus import Bus, Sample
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.config import load_config, read_layers
from mecha.runtime.messages import CameraStateMessage, ControlMessage, DetectionsMessage, FrameMessage, JsonMessage
from mecha.runtime.program import load_node
from mecha.runtime.variants import Wanted
from mecha.testing import NodeHarness, detections, frame
from tests.runtime.waiting import wait_for

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "nodes.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# Ten minutes to a node


def as_script(text: str) -> str:
    """Return what a reader does: types the commands, writes each program into the file that its first line names."""
    python = shlex.quote(sys.executable)
    steps = ["set -e", *(f'{name}() {{ {python} -m {name} "$@"; }}' for name in ("mecha", "pytest"))]
    for language, block in blocks(text):
        if language == "sh":
            steps.append(block)
        elif language == "python":
            steps.append(f"cat > {block.splitlines()[0].removeprefix('# ')} <<'END'\n{block}END")
    return "\n".join(steps)


def test_a_reader_of_the_page_has_a_node_of_their_own(tmp_path: Path) -> None:
    script = as_script(section("Ten minutes to a node of your own"))

    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "2 passed" in done.stdout
    assert [line for line in lines if re.fullmatch(r"\[WARNING\] cone-alarm: \d cones in frame \d+", line)]
    frames = {
        name: int(count) for name, count in re.findall(r"^([a-z-]+) +(\d+) +\d+ +\d+ ", done.stdout, re.MULTILINE)
    }
    assert frames["cone-alarm"] == frames["object-detector"] > 0


def test_the_node_of_the_page_is_short() -> None:
    program = next(block for _, block in blocks(PAGE) if block.startswith("# nodes/cone-alarm/node.py"))

    assert len(program.splitlines()) <= 25


def test_every_name_that_the_page_gives_a_node_is_one_of_it_and_every_name_of_the_harness_is_there() -> None:
    class Bare(Node[NodeConfig]): ...

    harness = NodeHarness(Bare)
    named = re.findall(r"^\| (`.*?) \|", section("What a node has"), re.MULTILINE)
    methods = {name for row in named for name in re.findall(r"`(?:self\.)?(\w+)", row)}
    parts = re.findall(r"\w+", section("Test a node"))

    assert [name for name in sorted(methods) if not hasattr(harness.node, name)] == []
    assert len(methods) > 10
    assert [name for name in vars(harness) | vars(NodeHarness) if name[0] != "_" and name not in parts] == []


def test_faults_of_a_config_are_told_as_the_page_says(tmp_path: Path) -> None:
    text = section("Configs")
    module = types.ModuleType("node_of_the_page")
    exec(compile(blocks(text)[0][1], "docs/nodes.md", "exec"), vars(module))  # noqa: S102 - a program of the page
    file = tmp_path / "configs/common/nodes/cone-alarm/config.json"
    file.parent.mkdir(parents=True)
    file.write_text(
        '{\n  "at_least": 0,\n  "color": "blue",\n  "siren": {"seconds": "3"},\n  "at_last": 1\n}\n', encoding="utf-8"
    )

    with pytest.raises(ConfigError) as caught:
        load_config(vars(module)["AlarmConfig"], read_layers((file,), tmp_path, {}))

    assert str(caught.value).splitlines() == re.findall(r"^    (configs/.*)$", text, re.MULTILINE)


# What the nodes that ship take


@pytest.mark.parametrize("node", ["camera", "object-detector"])
def test_every_key_of_a_config_is_on_the_page_with_its_default(node: str) -> None:
    model = load_node(bundled_dir() / "nodes", node).config_model

    for name, value in model().model_dump(mode="json").items():
        rows = [
            line for line in section(node).splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]
        ]
        assert rows, name
        names = re.findall(r"`(\w+)`", rows[0].split("|")[1])
        cell = rows[0].split("|")[2].replace("`", "").strip()
        defaults = json.loads(f"[{'null' if cell == 'none' else cell}]")
        # One default may stand for all names of its row.
        assert len(defaults) in {1, len(names)}, name
        assert defaults[names.index(name) % len(defaults)] == value, name
        assert (cell == "none") == (name == "model_path")


def test_the_defaults_of_a_wish_are_those_of_the_node() -> None:
    config = load_node(bundled_dir() / "nodes", "object-detector").config_model().model_dump()
    wanted = Wanted("arena-n")

    for name in ("use_int8", "input_size", "score_threshold", "iou_threshold", "max_detections", "threads"):
        assert getattr(wanted, name) == config[name]


# Other languages


def keys_of_message(topic: str) -> set[str]:
    text = PAGE.split(f"\n### `{topic}`\n")[1].split("\n### ")[0]
    return {key for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("/camera/rgb", frame().encode()[1]),
        ("/camera/state", CameraStateMessage(stale=False).encode()[0]),
        ("/vision/object/detections", detections("cone").encode()[0]),
        ("/vision/object/control", json.dumps(dict.fromkeys(ControlMessage.model_fields)).encode()),
    ],
)
def test_every_key_of_a_message_is_on_the_page(topic: str, text: bytes) -> None:
    assert keys_of_message(topic) == set(json.loads(text))


@contextmanager
def foreign(program: str, bus: Bus, endpoint: str, folder: Path) -> Iterator[None]:
    """Run a program of the page, one that names no mecha, as a process of its own."""
    code = next(block for _, block in blocks(section("Nodes in other languages")) if block.startswith(f"# {program} "))
    assert "mecha" not in code
    (folder / program).write_text(code, encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-P", program, endpoint], cwd=folder, stderr=subprocess.PIPE)
    try:
        yield
        assert process.poll() is None, process.communicate()[1].decode()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[tuple[Bus, str]]:
    """The bus of a project, and the endpoint that the commands of the page find."""
    with BusPlace(tmp_path, os.environ).hosted(BusSettings()) as (bus, endpoint):
        command = next(block for language, block in blocks(section("Nodes in other languages")) if language == "sh")
        found = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert found.stdout == endpoint
        yield bus, endpoint


def test_the_counter_of_the_page_reads_results_and_writes_a_topic(hosted: tuple[Bus, str], tmp_path: Path) -> None:
    bus, endpoint = hosted
    counted, told = (
        heard(bus, "/cones", JsonMessage.decode),
        heard(bus, "/vision/object/control", ControlMessage.decode),
    )

    with foreign("cones.py", bus, endpoint, tmp_path):
        sent = itertools.count()

        def answered() -> bool:
            send(bus, "/vision/object/detections", detections("cone", "ball", "cone", frame=next(sent)))
            return bool(counted)

        wait_for(answered, timeout_s=60)

    assert told == [ControlMessage(use_int8=False)]
    assert counted[0].data.keys() == {"frame", "cones"}
    assert counted[0].data["cones"] == 2


def test_the_camera_of_the_page_is_a_camera(hosted: tuple[Bus, str], tmp_path: Path) -> None:
    bus, endpoint = hosted
    frames: list[FrameMessage] = heard(bus, "/camera/rgb", FrameMessage.decode)

    with foreign("gray_camera.py", bus, endpoint, tmp_path):
        wait_for(lambda: len(frames) > 3, timeout_s=60)

    assert [one.seq for one in frames[:3]] == list(range(frames[0].seq, frames[0].seq + 3))
    assert all(np.array_equal(one.frame_bgr, np.full((480, 640, 3), 128)) for one in frames)
    assert frames[0].captured_at < frames[1].captured_at


@pytest.mark.parametrize("shared_memory", [False, True])
def test_a_frame_is_read_as_the_page_says(hosted: tuple[Bus, str], tmp_path: Path, *, shared_memory: bool) -> None:
    import zenoh

    _, endpoint = hosted
    snippet = next(block for _, block in blocks(PAGE) if block.startswith("header = "))
    sent = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    config = zenoh.Config()
    config.insert_json5("mode", '"client"')
    config.insert_json5("connect/endpoints", json.dumps([endpoint]))
    config.insert_json5("transport/shared_memory/enabled", json.dumps(shared_memory))
    read: list[dict[str, Any]] = []

    def take(sample: Any) -> None:
        names: dict[str, Any] = {"sample": sample, "json": json, "np": np}
        exec(snippet, names)  # noqa: S102 - of the page
        read.append(names)

    # As of a camera: a member that is not the one who hosts the bus.
    member = BusPlace(tmp_path, os.environ).join(endpoint)
    try:
        with zenoh.open(config) as session:
            subscriber: Any = session.declare_subscriber("camera/rgb", take)
            seqs = itertools.count()

            def came() -> bool:
                payload, attachment = frame(next(seqs), pixels=sent).encode()
                member.publish("/camera/rgb", payload, attachment, droppable=True)
                return len(read) > 2

            wait_for(came, timeout_s=60)
            subscriber.undeclare()
    finally:
        member.close()

    assert all(np.array_equal(one["pixels"], sent) for one in read)
    assert read[0]["header"]["seq"] < read[-1]["header"]["seq"]


def heard(bus: Bus, topic: str, decode: Callable[[Sample], Any]) -> list[Any]:
    messages: list[Any] = []
    bus.subscribe(topic, lambda sample: messages.append(decode(sample)))
    return messages


def send(bus: Bus, topic: str, message: DetectionsMessage) -> None:
    payload, attachment = message.encode()
    bus.publish(topic, payload, attachment)
