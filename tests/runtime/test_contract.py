"""A class that cannot be run as a node is refused when it is loaded, with a sentence for each fault."""

from pathlib import Path

import pytest

from mecha.errors import ConfigError
from mecha.runtime.program import load_node
from tests.runtime.projects import add_node

HEAD = "from mecha import FrameMessage, Node, NodeConfig\n"
STEP = "def step(self, message): ..."


@pytest.mark.parametrize(
    ("program", "faults"),
    [
        (
            "class A(Node): inputs = ['/camera/rgb']",
            [
                "A.inputs: got a list; expected topics and the types of their messages, "
                'as in {"/camera/rgb": FrameMessage}',
                "A.step: got none; expected step(self, message), as the node has inputs",
            ],
        ),
        (
            "class A(Node): outputs = {'camera/rgb': FrameMessage}",
            ['A.outputs: topic: got "camera/rgb"; expected words that each begin with a slash, as in /camera/rgb'],
        ),
        (
            "class A(Node): outputs = {'/a': 'FrameMessage', '/b': FrameMessage, '/c': dict}",
            [
                'A.outputs: /a: got "FrameMessage"; '
                "expected a type of messages, as FrameMessage, with newest_wins, encode, decode",
                "A.outputs: /c: got the class dict; "
                "expected a type of messages, as FrameMessage, with newest_wins, encode, decode",
            ],
        ),
        (
            "class B(NodeConfig): limit: int = 1\nclass A(Node[B]): ...",
            ["A.config_model: got NodeConfig; expected B, as the class derives from Node[B]"],
        ),
        (
            "class A(Node): config_model = {'limit': 1}",
            ["A.config_model: got a table of keys; expected a class that derives from mecha.NodeConfig"],
        ),
        (
            "class A(Node):\n  inputs = {'/a': FrameMessage}\n  def step(self): ...",
            ["A.step: got step(self); expected step(self, message)"],
        ),
        (
            "class A(Node):\n  def configure(self): ...\n  async def setup(self): ...\n  close = None",
            [
                "A.setup: got an async method; expected setup(self) without async",
                "A.configure: got configure(self); expected configure(self, previous)",
                "A.close: got null; expected a method close(self)",
            ],
        ),
        (
            "class A(Node):\n  def __init__(self): ...",
            ["A.__init__: got __init__(self); expected __init__(self, context, config)"],
        ),
    ],
)
def test_a_class_that_is_no_node_is_refused_with_every_fault(tmp_path: Path, program: str, faults: list[str]) -> None:
    file = add_node(tmp_path, "a", HEAD + program)

    with pytest.raises(ConfigError) as caught:
        load_node(tmp_path / "nodes", "a")

    assert str(caught.value).splitlines() == [f"{file}: {fault}" for fault in faults]


@pytest.mark.parametrize(
    "program",
    [
        f"class A(Node):\n  inputs = {{'/a': FrameMessage}}\n  {STEP}",
        "class A(Node):\n  def step(self, message=None, *more): ...",
        "class A(Node):\n  def __init__(self, *arguments): super().__init__(*arguments)",
        "class B(NodeConfig): ...\nclass C(B): ...\nclass A(Node[B]): config_model = C",
        "class Mine:\n  newest_wins = True\n  def encode(self): ...\n  @classmethod\n  def decode(cls, sample): ...\n"
        f"class A(Node):\n  inputs = {{'/a': Mine}}\n  {STEP}",
    ],
)
def test_a_class_that_is_one_is_taken(tmp_path: Path, program: str) -> None:
    add_node(tmp_path, "a", HEAD + program)

    assert load_node(tmp_path / "nodes", "a").__name__ == "A"
