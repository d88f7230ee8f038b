"""The main path with real models, photos and video, as commands against a real server on loopback."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mecha.detect.detector import Detector
from mecha.detect.images import read_image
from mecha.detect.session import Session
from mecha.gate import verdict
from mecha.hub.mirror import RunningMirror, running_mirror
from mecha.store.models import ModelStore
from tests.service.conftest import PLAIN, Bench

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(600)]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PHOTOS = ("000000000009.jpg", "000000000025.jpg", "000000000030.jpg", "000000000034.jpg")
FILES = {
    "model.onnx",
    "model-int8.onnx",
    "labels.txt",
    "config.json",
    "manifest.json",
    "report.md",
    "report.html",
    "report.json",
}
ENTRY = """
[[models]]
name = "{name}"
task = "object-detection"
repo = "{repo}"
filename = "{filename}"
preprocessing_preset = "yolo"
{options}

[models.quantize]
enabled = true
method = "{method}"
{search}
{calibration}
"""
FOUR_PHOTOS = f"""
[models.quantize.calibration]
repo = "somebody/photos"
repo_type = "dataset"
files = {json.dumps(PHOTOS)}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMirror]:
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the project")
    folder = tmp_path_factory.mktemp("hub")
    for repo, name in (("deepghs/yolos/yolov8n", "yolov8n"), ("somebody/dynamic", "yolov8n_dynamic")):
        (folder / repo).mkdir(parents=True)
        shutil.copy(SHARED / "models" / f"{name}.onnx", folder / repo / "model.onnx")
    (folder / "datasets/somebody/photos").mkdir(parents=True)
    for photo in PHOTOS:
        shutil.copy(SHARED / "coco/calib" / photo, folder / "datasets/somebody/photos")
    with running_mirror(folder) as running:
        yield running


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, hub: RunningMirror) -> Bench:
    """A project whose catalog names models that nobody has pulled.

    They are built from photos of a dataset repo; one with all that a build tries, the other is not about accuracy.
    """
    folder = tmp_path_factory.mktemp("project")
    (folder / "home").mkdir()
    bench = Bench(folder / "project", folder / "home", {"HF_ENDPOINT": hub.endpoint}, patience_s=500.0)
    bench.root.mkdir()
    dynamic = {"repo": "somebody/dynamic", "filename": "model.onnx", "method": "static_int8"}
    bench.write_catalog(
        ENTRY.format(name="at320", options="input_size = 320", search="", calibration=FOUR_PHOTOS, **dynamic)
        + ENTRY.format(name="at640", options="input_size = 640", search=PLAIN, calibration=FOUR_PHOTOS, **dynamic)
    )
    return bench


@pytest.fixture(scope="module")
def pulled(bench: Bench) -> Bench:
    """The same with yolov8n, pulled as the packaged catalog says: dynamic_int8, with escalation."""
    done = bench.command("models", "pull", "yolov8n")
    assert done.returncode == 0, done.stderr
    assert "dynamic_int8 is " in done.stdout
    assert "built static_int8 instead" in done.stdout
    return bench


def files_of(bench: Bench, name: str) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (bench.root / "models" / name).iterdir()}


def found(bench: Bench, image: str, *options: str) -> list[str]:
    done = bench.command("detect", str(SHARED / "images" / image), "--model", "yolov8n", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [item["label"] for item in json.loads(done.stdout)["detections"]]


def test_yolov8n_is_pulled_with_its_files_and_int8_is_under_a_third(pulled: Bench) -> None:
    files = files_of(pulled, "yolov8n")
    assert set(files) == FILES
    assert files["model-int8.onnx"] <= 0.30 * files["model.onnx"]
    manifest = json.loads((pulled.root / "models/yolov8n/manifest.json").read_text())
    assert [tried["method"] for tried in manifest["int8"]["tried"]] == ["dynamic_int8", "static_int8"]
    assert manifest["int8"]["gate"]["float_convs"] == []


@pytest.mark.parametrize("options", [(), ("--int8",)], ids=["FP32", "INT8"])
def test_photos_hold_what_a_person_sees_on_them(pulled: Bench, options: tuple[str, ...]) -> None:
    bus = found(pulled, "bus.jpg", *options)
    assert bus.count("bus") == 1
    assert bus.count("person") >= 4
    assert found(pulled, "zidane.jpg", *options).count("person") == 2


def test_int8_that_is_run_whole_gives_what_it_gives_cut_on_every_photo(
    pulled: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate looks at one frame, so none may be the one on which a good build is called wrong."""
    monkeypatch.setattr(verdict, "LEAST_SAMENESS", 0.999)
    published = ModelStore(pulled.root / "models").require("yolov8n")
    assert published.int8_path is not None
    candidate = Detector.from_file(published.int8_path, published.spec, precision="INT8", threads=2)
    whole = Session(published.int8_path, threads=2)
    assert candidate.cut
    photos = sorted((SHARED / "coco/calib").glob("*.jpg"))[:10]
    faults = [
        verdict._tail_fault(published.int8_path, candidate, whole, published.spec, read_image(photo))
        for photo in photos
    ]
    assert faults == [""] * 10


@pytest.mark.parametrize(("name", "size"), [("at320", 320), ("at640", 640)])
def test_a_dynamic_model_is_built_at_the_size_of_its_entry_from_photos_of_a_dataset_repo(
    bench: Bench, name: str, size: int
) -> None:
    done = bench.command("models", "pull", name, "--json")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["verdict"] in ("faster", "slower")
    assert last["provisional"] is False
    assert (bench.root / "mecha.lock").read_text().count('repo_type = "dataset"') == len(PHOTOS)
    files = files_of(bench, name)
    assert files["model-int8.onnx"] <= 0.30 * files["model.onnx"]
    config = json.loads((bench.root / "models" / name / "config.json").read_text())
    assert (config["input"]["height"], config["input"]["dynamic"]) == (size, True)
