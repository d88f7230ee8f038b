"""docs/nodes.md says what is."""

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import pytest

from mecha.project import bundled_dir, find_project
from mecha.runtime.dev import DevOptions, run_dev
from mecha.runtime.program import load_node
from mecha.runtime.variants import Wanted
from mecha.store.models import ModelStore
from tests.detect.blob_detector import RED, scene
from tests.detect.published_blobs import publish_blobs
from tests.runtime.projects import add_node, configure

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "nodes.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_node_of_the_page_works_and_is_short(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    (root / "model_catalog.toml").touch()
    shutil.copytree(bundled_dir() / "nodes", root / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    publish_blobs(ModelStore(root / "models"))
    configure(root, "object-detector", model="blobs")
    program = block("python")
    assert len(program.splitlines()) <= 25
    # The model at hand knows red and green squares.
    add_node(root, "cone-alarm", program.replace('"cone"', '"red"'))
    configure(root, "cone-alarm").write_text(block("json"))
    pictures = root / "pictures"
    pictures.mkdir()
    for index in range(5):
        cv2.imwrite(str(pictures / f"{index}.png"), scene((8, 8, 8, RED)))
    lines: list[str] = []

    summary = run_dev(
        find_project(root, os.environ), (), DevOptions(source=str(pictures)), lines.append, lambda event: None
    )

    assert summary.exit_code == 0, lines
    alarms = [line for line in lines if line.startswith("[WARNING] cone-alarm: ")]
    assert alarms[-1] == "[WARNING] cone-alarm: 1 cones in frame 4"
    assert summary.nodes["cone-alarm"].frames == summary.nodes["object-detector"].frames


@pytest.mark.parametrize("node", ["camera", "object-detector"])
def test_every_key_of_a_config_is_on_the_page_with_its_default(node: str) -> None:
    section = PAGE.split(f"\n## {node}\n")[1].split("\n## ")[0]
    model = load_node(bundled_dir() / "nodes", node).config_model

    for name, value in model().model_dump(mode="json").items():
        row = next(line for line in section.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1])
        default = row.split("|")[2].replace("`", "").strip()
        names = re.findall(r"`(\w+)`", row.split("|")[1])
        shown = default.split(", ")[names.index(name)] if ", " in default else default
        assert shown == ("none" if name == "model_path" else json.dumps(value))


def test_the_defaults_of_a_wish_are_those_of_the_node() -> None:
    config = load_node(bundled_dir() / "nodes", "object-detector").config_model().model_dump()
    wanted = Wanted("arena-n")

    for name in ("use_int8", "input_size", "score_threshold", "iou_threshold", "max_detections", "threads"):
        assert getattr(wanted, name) == config[name]
