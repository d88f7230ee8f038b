"""Laying out a node of one's own: a program, its config and a test that passes, for its author to change."""

import keyword
import re
from pathlib import Path
from string import Template

from mecha.errors import UsageError
from mecha.project import Project
from mecha.store.faults import disk_error

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_IMPORTED = frozenset({"DetectionsMessage", "JsonMessage", "Node", "NodeConfig"})

_PROGRAM = Template('''"""$name: tells of frames with enough objects in them."""

from mecha import DetectionsMessage, Field, JsonMessage, Node, NodeConfig


class ${kind}Config(NodeConfig):
    """What config.json may hold, with types, bounds and defaults."""

    at_least: int = Field(1, ge=0)


class $kind(Node[${kind}Config]):
    """Publishes frame and number of objects where there are at least so many."""

    config_model = ${kind}Config
    inputs = {"/vision/object/detections": DetectionsMessage}
    outputs = {"/$name": JsonMessage}

    def setup(self) -> None:
        """Open what the node needs; called once, before any message."""
        self.told = 0

    def step(self, message: DetectionsMessage) -> None:
        """Work on one message."""
        objects = len(message.detections)
        if objects >= self.config.at_least:
            self.publish("/$name", JsonMessage({"frame": message.frame, "objects": objects}))
            self.told += 1

    def close(self) -> None:
        """Give back what `setup` took; called once, at the end."""
        self.log.info("told of %d frames", self.told)
''')

_CONFIG = '{\n  "at_least": 1\n}\n'

_TEST = Template('''"""$name alone, with neither camera nor model nor another process: `pytest tests/$test`."""

from pathlib import Path

from mecha import JsonMessage
from mecha.testing import NodeHarness, detections

NODE = Path(__file__).parents[1] / "nodes" / "$name"


def test_it_tells_of_frames_with_enough_objects() -> None:
    with NodeHarness(NODE, {"at_least": 2}) as node:
        node.feed("/vision/object/detections", detections("cone", frame=6))
        node.feed("/vision/object/detections", detections("cone", "ball", frame=7))

        assert node.read("/$name") == [JsonMessage({"frame": 7, "objects": 2})]


def test_it_follows_its_config() -> None:
    with NodeHarness(NODE, {"at_least": 2}) as node:
        node.configure({"at_least": 0})
        node.feed("/vision/object/detections", detections(frame=3))

        assert node.read("/$name") == [JsonMessage({"frame": 3, "objects": 0})]
''')


def lay_out_node(project: Project, name: str) -> tuple[Path, ...]:
    """Write a node into a project and return what was written; a config and a test that are there stay as they are.

    Raises:
        UsageError: the name is none for a node, or the project has such a node.
        DiskError: a file cannot be written.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f'--node: got "{name}"; expected words of small letters and digits, joined by "-", as in cone-alarm'
        )
    program = project.nodes_dir / name / "node.py"
    if program.exists():
        raise UsageError(
            f"--node: {program.relative_to(project.root).as_posix()} is there already", hint="Name another node."
        )
    test = test_name(name)
    words = {"name": name, "kind": _class_name(name), "test": test}
    # The program makes the folder a node, so it comes last: `mecha dev` in another terminal meets it whole.
    texts = {
        project.configs_dir / "common" / "nodes" / name / "config.json": _CONFIG,
        project.root / "tests" / test: _TEST.substitute(words),
        program: _PROGRAM.substitute(words),
    }
    return tuple(file for file, text in texts.items() if _written(file, text))


def test_name(name: str) -> str:
    """Return the name of the file with a node's test; pytest wants each to be another one."""
    return f"test_{name.replace('-', '_')}.py"


def _class_name(name: str) -> str:
    joined = "".join(word.capitalize() for word in name.split("-"))
    return f"{joined}Node" if keyword.iskeyword(joined) or {joined, f"{joined}Config"} & _IMPORTED else joined


def _written(file: Path, text: str) -> bool:
    if file.exists():
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk_error(error, file, "write") from error
    return True
