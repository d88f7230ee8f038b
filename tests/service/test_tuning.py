"""What a pull finds out about threads and providers: measured once, kept for as long as it holds, and shown."""

import json
from pathlib import Path

import pytest
from tests.detect.blob_detector import blob_detector
from tests.detect.published_blobs import publish_blobs
from tests.service.conftest import Bench

from mecha.catalog.schema import QuantizeConfig
from mecha.cli.show import show_lines
from mecha.detect.session import default_threads, tuned_device, usable_cores
from mecha.service.job import BuildJob
from mecha.service.tuning import TUNED_FILE, holding, remembered, tune_build
from mecha.store.manifest import Int8Record, TunedSession, TuneRecord
from mecha.store.models import ModelStore
from mecha.store.published import MODEL_FILE, PublishedModel
from mecha.store.spec import serialised

SEVEN = TunedSession(threads=7, ms=7.0)
needs_cores = pytest.mark.skipif(usable_cores() == 1, reason="on one core there is nothing to choose from")


def here(**sessions: TunedSession) -> TuneRecord:
    device, onnxruntime = tuned_device()
    return TuneRecord(device=device, onnxruntime=onnxruntime, sessions=sessions)


def tuned_of(bench: Bench) -> TuneRecord | None:
    published = ModelStore(bench.root / "models").require("arena")
    return published.manifest.tuned


@needs_cores
def test_a_pull_remembers_how_each_precision_runs_fastest_here_and_show_tells(pulled: Bench) -> None:
    tuned = tuned_of(pulled)
    assert tuned is not None
    assert (tuned.device, tuned.onnxruntime) == tuned_device()
    assert set(tuned.sessions) == {"FP32", "INT8"}
    assert all(session.threads >= default_threads() and session.ms for session in tuned.sessions.values())
    fp32 = tuned.sessions["FP32"]
    threads = f"{fp32.threads} thread{'s' if fp32.threads > 1 else ''}"
    shown = pulled.command("models", "show", "arena")
    assert f"  tuned      FP32: {threads}, CPU, {fp32.ms:.1f} ms\n" in shown.stdout
    document = json.loads(pulled.command("models", "show", "arena", "--json").stdout)
    assert document["tuned_here"] is True
    assert document["manifest"]["tuned"] == tuned.model_dump(mode="json")


def test_another_project_takes_the_tune_with_the_build(pulled: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other", pulled.home, dict(pulled.environ))
    other.root.mkdir()
    other.write_catalog((pulled.root / "model_catalog.toml").read_text())
    (other.root / "mecha.lock").write_bytes((pulled.root / "mecha.lock").read_bytes())
    assert other.command("models", "pull", "arena", "--offline").returncode == 0
    assert tuned_of(other) == tuned_of(pulled)


def test_building_int8_again_measures_nothing_that_is_known_and_keeps_it(pulled: Bench) -> None:
    store = ModelStore(pulled.root / "models")
    store.remember("arena", here(FP32=SEVEN, INT8=SEVEN))
    done = pulled.command("models", "quantize", "arena", "--json")
    assert done.returncode == 0, done.stderr
    assert "tune" not in {json.loads(line).get("stage") for line in done.stdout.splitlines()}
    assert tuned_of(pulled) == here(FP32=SEVEN, INT8=SEVEN)


def test_a_pull_of_fp32_only_keeps_what_was_tuned(pulled: Bench) -> None:
    ModelStore(pulled.root / "models").remember("arena", here(FP32=SEVEN))
    pulled.write_catalog((pulled.root / "model_catalog.toml").read_text().replace("enabled = true", "enabled = false"))
    (pulled.root / "models/arena/labels.txt").unlink()
    assert pulled.command("models", "pull", "arena", "--offline").returncode == 0
    assert tuned_of(pulled) == here(FP32=SEVEN)


def test_a_tune_that_kills_its_process_costs_nothing_but_the_tune(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Deadly:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mecha.gate.tune':\n"
        "            os.abort()\n"
        "sys.meta_path.insert(0, Deadly())\n"
    )
    done = bench.command("models", "pull", "arena", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    published = ModelStore(bench.root / "models").require("arena")
    assert published.int8_path is not None
    assert published.manifest.tuned is None


def job_of(model: PublishedModel, out_dir: Path, tuned: dict[str, TunedSession] | None) -> BuildJob:
    return BuildJob(
        fp32=model.fp32_path,
        out_dir=out_dir,
        spec=model.spec,
        quantize=QuantizeConfig(),
        key="k",
        samples=1,
        threads=1,
        tuned=tuned,
    )


@needs_cores
@pytest.mark.parametrize(
    ("state", "known", "measured"),
    [
        ("rejected", {}, {"FP32"}),
        ("rejected", {"FP32": SEVEN}, set()),
        ("rejected", None, None),
        ("built", {"FP32": SEVEN}, {"INT8"}),
    ],
    ids=["without INT8", "known already", "not asked for", "INT8 is new"],
)
def test_only_what_is_there_and_not_known_is_measured(
    tmp_path: Path, state: str, known: dict[str, TunedSession] | None, measured: set[str] | None
) -> None:
    model = publish_blobs(ModelStore(tmp_path / "models"))
    (tmp_path / "model-int8.onnx").write_bytes(blob_detector())
    stages: list[str] = []
    record = Int8Record.model_validate({"state": state})
    tune_build(job_of(model, tmp_path, known), record, lambda stage, *_: stages.append(stage))
    file = tmp_path / TUNED_FILE
    assert file.is_file() is (known is not None)
    if known is None or measured is None:
        return
    found = TuneRecord.model_validate_json(file.read_bytes())
    assert set(found.sessions) == {*known, *measured}
    assert all(found.sessions[precision] == session for precision, session in known.items())
    assert set(stages) == ({"tune"} if measured else set())


def tuned_blobs(folder: Path, tuned: TuneRecord) -> tuple[PublishedModel, str]:
    store = ModelStore(folder / "models")
    publish_blobs(store)
    model = store.remember("blobs", tuned)
    return model, model.manifest.files[MODEL_FILE].sha256


def test_what_was_tuned_holds_for_the_same_fp32_on_this_device_only(tmp_path: Path) -> None:
    model, sha256 = tuned_blobs(tmp_path, here(FP32=SEVEN))
    assert holding(model, sha256) == {"FP32": SEVEN}
    assert holding(model, "0" * 64) == {}
    assert holding(None, sha256) == {}
    elsewhere = ModelStore(tmp_path / "models").remember(
        "blobs", here(FP32=SEVEN).model_copy(update={"onnxruntime": "0.0.1"})
    )
    assert holding(elsewhere, sha256) == {}


def test_the_next_manifest_remembers_what_holds_and_then_what_lies_beside_the_build(tmp_path: Path) -> None:
    two = TunedSession(threads=2, ms=2.0)
    (tmp_path / TUNED_FILE).write_bytes(serialised(here(FP32=two, INT8=two)))
    model, sha256 = tuned_blobs(tmp_path, here(FP32=SEVEN))
    assert remembered(model, sha256, tmp_path) == here(FP32=SEVEN, INT8=two)
    assert remembered(model, "0" * 64, tmp_path) == here(FP32=two, INT8=two)
    assert remembered(None, sha256, tmp_path) == here(FP32=two, INT8=two)
    assert remembered(model, sha256, None) == here(FP32=SEVEN)
    assert remembered(model, "0" * 64, None) is None


def test_a_tune_of_another_device_is_shown_as_what_it_is() -> None:
    tuned = TuneRecord(device="arm64, 4 cores", onnxruntime="1.20.0", sessions={"FP32": SEVEN})
    document = {
        "name": "m",
        "licence": "MIT",
        "source": "unlisted",
        "state": "ready",
        "fault": None,
        "catalog": None,
        "path": "models/m",
        "config": {
            "task": "object-detection",
            "family": "yolov8",
            "classes": ["a"],
            "preprocessing": "yolo",
            "input": {"dynamic": False, "width": 64, "height": 64},
        },
        "manifest": {
            "origin": {"revision": "1"},
            "files": {},
            "int8": Int8Record(state="disabled").model_dump(),
            "tuned": tuned.model_dump(),
        },
        "tuned_here": False,
    }
    assert list(show_lines(document))[-2:] == [
        "  tuned      FP32: 7 threads, CPU, 7.0 ms",
        "             on arm64, 4 cores with onnxruntime 1.20.0; not used here",
    ]
