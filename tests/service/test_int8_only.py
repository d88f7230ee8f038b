"""A model whose file is INT8 already: taken as it is, by the pull and by everything that runs it."""

import json
from pathlib import Path

import pytest
from tests.detect.blob_detector import RED, blob_detector, blob_spec, scene
from tests.detect.published_blobs import BlobFrames, int8_blobs
from tests.service.conftest import Bench

from mecha.detect.detector import Detector
from mecha.detect.images import write_image
from mecha.graph.inspect import inspect_model
from mecha.quantize.dynamic import build_dynamic
from mecha.quantize.static import build_static
from mecha.runtime.loader import ModelLoader
from mecha.runtime.variants import Wanted

MESSAGE = "the file is INT8 already: taken as it is, with no FP32 to measure it against"
CATALOG = """
[[models]]
name = "blobs"
path = "int8.onnx"

[models.quantize]
method = "dynamic_int8"
"""


@pytest.fixture(scope="module")
def int8() -> bytes:
    return int8_blobs()


@pytest.fixture
def bench(tmp_path: Path, int8: bytes) -> Bench:
    """A project in which an INT8 file was pulled."""
    bench = Bench(tmp_path / "robot", tmp_path / "home", {"HF_ENDPOINT": "http://127.0.0.1:9"})
    bench.root.mkdir()
    bench.home.mkdir()
    (bench.root / "int8.onnx").write_bytes(int8)
    bench.write_catalog(CATALOG)
    done = bench.command("models", "pull", "blobs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"blobs: {bench.root}/models/blobs (licence unknown)\n  {MESSAGE}\n"
    return bench


def run(bench: Bench, *arguments: str) -> str:
    done = bench.command(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_file_is_published_as_it_is_and_the_manifest_says_so(bench: Bench, int8: bytes) -> None:
    folder = bench.root / "models" / "blobs"
    assert {file.name for file in folder.iterdir()} == {"model.onnx", "labels.txt", "config.json", "manifest.json"}
    assert (folder / "model.onnx").read_bytes() == int8
    record = json.loads((folder / "manifest.json").read_text())["int8"]
    assert (record["state"], record["method"], record["gate"]) == ("published", "published", None)
    assert json.loads((folder / "config.json").read_text())["int8"] == {
        "method": "published",
        "verdict": None,
        "speedup": None,
        "agreement": None,
        "provisional": False,
    }


@pytest.mark.parametrize(
    "command", [("pull", "blobs"), ("pull", "blobs", "--method", "static_int8"), ("quantize", "blobs")], ids=" ".join
)
def test_it_is_never_built_from_and_one_line_says_why(bench: Bench, command: tuple[str, ...]) -> None:
    before = (bench.root / "models/blobs/manifest.json").read_bytes()
    assert run(bench, "models", *command) == (
        f"blobs: complete in {bench.root}/models/blobs, nothing to do\n  {MESSAGE}\n"
    )
    assert (bench.root / "models/blobs/manifest.json").read_bytes() == before


def test_no_frame_is_gathered_for_it(bench: Bench) -> None:
    done = bench.command("models", "calibrate", "blobs", "--from", "/dev/video97")
    assert (done.returncode, done.stderr) == (
        3,
        "error: blobs: model.onnx is INT8 already; there is no FP32 to calibrate\n"
        "  next: `mecha models add FILE --name NAME` adds the FP32 that it was made of, as a model of its own.\n",
    )
    assert not (bench.root / "calibration").exists()


def test_list_and_show_tell_it_from_fp32(bench: Bench, int8: bytes) -> None:
    rows = json.loads(run(bench, "models", "list", "--json"))["models"]
    row = next(row for row in rows if row["name"] == "blobs")
    assert (row["state"], row["fp32_bytes"], row["int8_bytes"]) == ("ready", None, len(int8))
    assert (row["method"], row["verdict"]) == ("published", None)
    assert f"  INT8       published: {MESSAGE}\n" in run(bench, "models", "show", "blobs")


def test_a_bench_measures_what_there_is(bench: Bench) -> None:
    result = json.loads(run(bench, "models", "bench", "blobs", "--json"))
    assert (result["fp32"], result["speedup"], result["verdict"]) == (None, None, None)
    assert result["int8"]["session_ms"]["p50"] > 0
    assert result["int8"]["exported_session_ms"]["p50"] > 0
    lines = run(bench, "models", "bench", "blobs").splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["INT8", "model.onnx"]
    assert lines[4] == "  model.onnx is INT8 already; there is no FP32 to compare with"


def test_an_eval_measures_what_there_is(bench: Bench) -> None:
    photos = bench.root / "photos"
    photos.mkdir()
    write_image(photos / "1.png", scene((8, 8, 8, RED)))
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 16, 16], "area": 256, "iscrowd": 0}
    (bench.root / "instances.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 64}],
                "annotations": [box],
                "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
            }
        )
    )
    options = ("--data", "instances.json", "--images", "photos")
    result = json.loads(run(bench, "models", "eval", "blobs", *options, "--json"))
    assert (result["fp32"], result["relative_drop"]) == (None, None)
    assert result["int8"]["map50"] > 0
    assert run(bench, "models", "eval", "blobs", *options).endswith(
        "  model.onnx is INT8 already; there is no FP32 to compare with\n"
    )


def test_a_tune_is_remembered_for_the_precision_that_runs(bench: Bench) -> None:
    tuned = json.loads(run(bench, "models", "tune", "blobs", "--json"))
    assert [session["precision"] for session in tuned["sessions"]] == ["INT8"]


@pytest.mark.parametrize(
    ("wanted", "notice"), [("auto", ""), ("int8", ""), ("fp32", "blobs is there in INT8 only; running INT8.")]
)
def test_a_detector_runs_it_as_int8_and_says_where_fp32_was_asked_for(bench: Bench, wanted: str, notice: str) -> None:
    detector = Detector(bench.root / "models/blobs", precision=wanted)  # type: ignore[arg-type]
    assert (detector.precision, detector.notice) == ("INT8", notice)
    assert detector(scene((8, 8, 8, RED))).label(0) == "red"


@pytest.mark.parametrize(
    ("use_int8", "notice"), [("auto", ""), (True, ""), (False, "blobs is there in INT8 only; running INT8.")]
)
def test_a_node_runs_it_as_int8_and_says_where_fp32_was_asked_for(
    bench: Bench, use_int8: bool | str, notice: str
) -> None:
    choice = ModelLoader(bench.root).choose(Wanted("blobs", use_int8=use_int8))  # type: ignore[arg-type]
    assert [(variant.precision, variant.file) for variant in choice.variants] == [("INT8", "models/blobs/model.onnx")]
    assert choice.notice == notice


def test_every_way_of_quantizing_is_told(tmp_path: Path) -> None:
    fp32 = tmp_path / "fp32.onnx"
    fp32.write_bytes(blob_detector())
    build_dynamic(fp32, tmp_path / "dynamic.onnx")
    build_static(fp32, tmp_path / "static.onnx", BlobFrames(), blob_spec())
    told = {name: inspect_model(tmp_path / f"{name}.onnx").quantized for name in ("fp32", "dynamic", "static")}
    assert told == {"fp32": False, "dynamic": True, "static": True}
