"""Pulling real models of other families than yolov8, as commands against a real server on loopback."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mecha.hub.mirror import RunningMirror, running_mirror
from tests.service.conftest import Bench

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(600)]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ENTRY = """
[[models]]
name = "{name}"
task = "object-detection"
repo = "somebody/{name}"
filename = "model.onnx"
{labels}

[models.quantize]
enabled = true
method = "static_int8"
escalate = false
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMirror]:
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the project")
    folder = tmp_path_factory.mktemp("hub")
    for name in ("yolov5n", "yolox_nano"):
        (folder / "somebody" / name).mkdir(parents=True)
        shutil.copy(SHARED / "models" / f"{name}.onnx", folder / "somebody" / name / "model.onnx")
    with running_mirror(folder) as running:
        yield running


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, hub: RunningMirror) -> Bench:
    folder = tmp_path_factory.mktemp("project")
    (folder / "home").mkdir()
    bench = Bench(folder / "project", folder / "home", {"HF_ENDPOINT": hub.endpoint}, patience_s=500.0)
    bench.root.mkdir()
    # No preset is named: the family says how a frame is prepared.
    names = {"yolov5n": "", "yolox_nano": 'labels = "coco"'}
    bench.write_catalog("".join(ENTRY.format(name=name, labels=labels) for name, labels in names.items()))
    return bench


@pytest.mark.parametrize(
    ("name", "family", "preset", "people"), [("yolov5n", "yolov5", "yolo", 3), ("yolox_nano", "yolox", "yolox", 3)]
)
def test_a_pull_ends_with_a_verdict_and_the_model_sees_what_is_there(
    bench: Bench, name: str, family: str, preset: str, people: int
) -> None:
    done = bench.command("models", "pull", name, "--json")
    assert done.returncode == 0, done.stderr
    config = json.loads((bench.root / "models" / name / "config.json").read_text())
    assert (config["family"], config["preprocessing"]) == (family, preset)
    manifest = json.loads((bench.root / "models" / name / "manifest.json").read_text())
    [tried] = manifest["int8"]["tried"]
    assert tried["verdict"] in ("faster", "slower", "wrong")
    assert "no score can pass" not in tried["reason"]
    for options in ((), ("--int8",)):
        seen = bench.command("detect", str(SHARED / "images/bus.jpg"), "--model", name, "--json", *options)
        assert seen.returncode == 0, seen.stderr
        labels = [item["label"] for item in json.loads(seen.stdout.splitlines()[-1])["detections"]]
        assert labels.count("bus") == 1
        assert labels.count("person") >= people
