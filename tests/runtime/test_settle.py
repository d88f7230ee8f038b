"""Changing a config.json from outside: all of it is valid afterwards, or nothing was written."""

import json
import os
from pathlib import Path

import pytest

from mecha.errors import ConfigError
from mecha.project import find_project
from mecha.runtime.settle import set_values
from tests.runtime.projects import configure, make_project

NODE = """
    from mecha.runtime.node import Node, NodeConfig

    class Box(NodeConfig):
        width: int = 1
        height: int = 1

    class SettledConfig(NodeConfig):
        box: Box = Box()
        name: str | None = None

    class Settled(Node[SettledConfig]):
        config_model = SettledConfig
"""


def test_values_go_into_the_file_of_the_environment_key_by_key(tmp_path: Path) -> None:
    root = make_project(tmp_path, settled=NODE)
    common = configure(root, "settled", box={"width": 2})
    over = configure(root, "settled", "lab", box={"height": 3}, name="x")
    before = common.read_bytes()
    file = set_values(find_project(root, os.environ, "lab"), "settled", {"box": {"width": 9}, "name": None}, os.environ)
    assert file == over
    assert json.loads(over.read_text()) == {"box": {"height": 3, "width": 9}, "name": None}
    assert common.read_bytes() == before


def test_one_wrong_value_keeps_all_from_being_written(tmp_path: Path) -> None:
    root = make_project(tmp_path, settled=NODE)
    file = configure(root, "settled", name="x")
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=r':4: box[.]width: got "9"; expected a whole number$'):
        set_values(find_project(root, os.environ), "settled", {"name": "y", "box": {"width": "9"}}, os.environ)
    assert file.read_bytes() == before


def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    root = make_project(tmp_path, settled=NODE)
    file = configure(root, "settled")
    file.write_text("[1, 2]")
    expected = r"^configs/common/nodes/settled/config[.]json:1: got \[1, 2\]; expected a table of keys, as in [{][}]$"
    with pytest.raises(ConfigError, match=expected):
        set_values(find_project(root, os.environ), "settled", {"name": "y"}, os.environ)
    assert file.read_text() == "[1, 2]"
