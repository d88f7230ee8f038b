"""What `mecha models eval` measured stays with the build: in the manifest, the report and `models show`."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from tests.service.conftest import Bench

from mecha.arena.labels import CLASS_NAMES
from mecha.arena.scene import ArenaCamera
from mecha.detect.images import write_image
from mecha.service.measurement import evaluated
from mecha.service.report import Evaluation
from mecha.store.manifest import AccuracyRecord
from mecha.store.models import ModelStore
from mecha.store.published import INT8_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.revision import revise

REPORTS = ("report.md", "report.html", "report.json")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of arena scenes with their truth as COCO annotations."""
    folder = tmp_path_factory.mktemp("photos")
    images, annotations = [], []
    for number in range(1, 4):
        scene = ArenaCamera(number, 320, 240).scene(number)
        write_image(folder / f"{number}.png", scene.frame_bgr)
        images.append({"id": number, "file_name": f"{number}.png"})
        for (x1, y1, x2, y2), class_id in zip(scene.boxes_xyxy.tolist(), scene.class_ids.tolist(), strict=True):
            annotations.append({"image_id": number, "category_id": class_id + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(truth))
    return folder


def published(bench: Bench) -> PublishedModel:
    return ModelStore(bench.root / "models").require("arena")


def measured(bench: Bench, photos: Path, during: object = None, limit: int | None = None) -> Evaluation:
    """Measure in this process; `during` is called once, between the two precisions."""
    calls = [during] if during else []

    def progress(stage: str, completed: int, total: int | None) -> None:
        del completed, total
        if stage == "evaluate INT8" and calls:
            change = calls.pop()
            assert callable(change)
            change()

    store = ModelStore(bench.root / "models")
    data = photos / "instances.json"
    return evaluated(store, "arena", data, photos, limit=limit, threads=1, progress=progress)


def kept_by(bench: Bench) -> AccuracyRecord | None:
    return published(bench).manifest.int8.accuracy


def test_manifest_report_and_show_have_it_and_every_file_is_what_the_manifest_says(pulled: Bench, photos: Path) -> None:
    before = published(pulled)
    cached = {file: file.read_bytes() for file in (pulled.home / "cache").rglob("report.*")}
    assert len(cached) == len(REPORTS)
    data = ("--data", str(photos / "instances.json"), "--images", str(photos))
    done = pulled.command("models", "eval", "arena", *data)
    assert done.returncode == 0, done.stderr
    said = "  remembered: `mecha models show arena` and `mecha models report arena` have it"
    assert done.stdout.splitlines()[-1] == said

    after, kept = published(pulled), kept_by(pulled)
    assert kept is not None
    digest = sha256((photos / "instances.json").read_bytes()).hexdigest()
    assert (kept.images, kept.data, kept.sha256) == (3, "instances.json", digest)
    assert 0 < kept.int8_map < (kept.int8_map50 or 0) <= 1
    assert 0 < kept.fp32_map < (kept.fp32_map50 or 0) <= 1
    same = {name: record for name, record in before.manifest.files.items() if name not in REPORTS}
    assert same.items() <= after.manifest.files.items()
    changed: dict[str, object] = {"int8": None, "files": {}, "digest": ""}
    assert before.manifest.model_copy(update=changed) == after.manifest.model_copy(update=changed)
    assert pulled.command("models", "verify", "arena").returncode == 0
    assert {file: file.read_bytes() for file in cached} == cached, "the build in the cache is nobody's to change"

    figures = f"INT8 {kept.int8_map:.4f}, FP32 {kept.fp32_map:.4f}"
    assert f"| mAP50-95 | {figures} on 3 labelled photos of instances.json |" in (after.path / "report.md").read_text()
    assert f"<dt>mAP50-95</dt><dd>{kept.int8_map:.3f}<small>" in (after.path / "report.html").read_text()
    document = json.loads((after.path / "report.json").read_text())
    assert document["int8"] == after.manifest.int8.model_dump(mode="json")
    shown = pulled.command("models", "show", "arena").stdout
    assert (
        f"  mAP50-95   FP32 {kept.fp32_map:.4f}, INT8 {kept.int8_map:.4f} (mAP50 {kept.fp32_map50:.4f}, "
        f"{kept.int8_map50:.4f}) on 3 photos of instances.json\n"
    ) in shown
    memory = after.manifest.int8.gate.memory if after.manifest.int8.gate else None
    assert memory is not None
    assert f"  memory     FP32 {memory.fp32_mb:.0f} MB, INT8 {memory.int8_mb:.0f} MB, each on its own\n" in shown


def test_the_rest_of_the_report_stays_as_it_was(pulled: Bench, photos: Path) -> None:
    folder = published(pulled).path
    before = {name: (folder / name).read_text().splitlines() for name in REPORTS[:2]}
    assert measured(pulled, photos).remembered
    for name, lines in before.items():
        now = (folder / name).read_text().splitlines()
        assert [line for line in now if "mAP50" not in line] == lines, name
    assert measured(pulled, photos).remembered, "what was written again can be written again"


def test_some_photos_of_many_are_not_remembered(pulled: Bench, photos: Path) -> None:
    found = measured(pulled, photos, limit=2)
    assert found == Evaluation(found.figures)
    assert found.figures["images"] == 2
    assert kept_by(pulled) is None


def test_a_model_without_int8_has_nothing_to_remember(pulled: Bench, photos: Path) -> None:
    (published(pulled).path / INT8_FILE).unlink()
    assert not measured(pulled, photos).remembered
    assert kept_by(pulled) is None


def test_it_is_forgotten_when_the_build_is_published_again(pulled: Bench, photos: Path) -> None:
    assert measured(pulled, photos).remembered
    (published(pulled).path / "labels.txt").unlink()
    assert pulled.command("models", "pull", "arena", "--offline").returncode == 0
    assert kept_by(pulled) is None
    assert "mAP50" not in (published(pulled).path / "report.md").read_text()


def test_figures_of_a_build_that_is_gone_are_not_those_of_the_next(pulled: Bench, photos: Path) -> None:
    model = published(pulled)

    def another_build() -> None:
        contents = {INT8_FILE: (model.path / INT8_FILE).read_bytes() + b"\x00"}
        revise(ModelStore(pulled.root / "models"), model, model.manifest, contents)

    found = measured(pulled, photos, another_build)
    assert (found.remembered, found.fault) == (
        False, "arena: another build was published while this one was measured",
    )  # fmt: skip
    assert found.figures["int8"]["map"] > 0, "what was measured is told all the same"
    assert kept_by(pulled) is None


def test_a_report_that_is_damaged_is_left_and_said(pulled: Bench, photos: Path) -> None:
    report = published(pulled).path / "report.json"
    content = report.read_bytes()
    report.unlink()
    report.write_bytes(content.replace(b"1", b"2"))
    data = ("--data", str(photos / "instances.json"), "--images", str(photos))
    done = pulled.command("models", "eval", "arena", *data, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["images"] == 3
    assert done.stderr.splitlines()[-2:] == [
        f"  not remembered: {report}: the content is not what manifest.json says",
        "  next: `mecha models verify arena` tells more; `mecha models pull arena` makes it whole again.",
    ]
    assert kept_by(pulled) is None


def test_a_model_without_a_report_remembers_it_in_its_manifest(pulled: Bench, photos: Path) -> None:
    model = published(pulled)
    files = {name: record for name, record in model.manifest.files.items() if name not in REPORTS}
    revise(ModelStore(pulled.root / "models"), model, model.manifest.model_copy(update={"files": files}), {})
    assert measured(pulled, photos).remembered
    assert kept_by(pulled) is not None
    assert not (published(pulled).path / "report.md").exists()


def test_what_a_person_wrote_into_the_config_stays(pulled: Bench, photos: Path) -> None:
    config = published(pulled).path / SPEC_FILE
    content = config.read_text()
    config.unlink()
    config.write_text(content + "\n")
    assert measured(pulled, photos).remembered
    assert (published(pulled).path / SPEC_FILE).read_text() == content + "\n"


def test_a_model_that_is_damaged_is_not_published_anew(pulled: Bench) -> None:
    model = published(pulled)
    int8 = model.path / INT8_FILE
    int8.unlink()
    with pytest.raises(Exception, match="no such file") as caught:
        revise(ModelStore(pulled.root / "models"), model, model.manifest, {})
    size = model.manifest.files[INT8_FILE].size_bytes
    assert str(caught.value) == f"{int8}: got no such file; expected {size} bytes"
    assert published(pulled).manifest == model.manifest
    assert (published(pulled).path / MODEL_FILE).is_file()
