"""`mecha models add --family`: a family that the model is not of is refused, with everything as it was."""

from pathlib import Path

import onnx
import pytest
from tests.detect.blob_detector import blob_detector
from tests.service.conftest import Bench

CATALOG = "# What this robot looks for.\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "robot", tmp_path / "home", {"HF_ENDPOINT": "http://127.0.0.1:9"})
    bench.root.mkdir()
    bench.home.mkdir()
    bench.write_catalog(CATALOG)
    (bench.root / "blobs.onnx").write_bytes(blob_detector())
    return bench


def added(bench: Bench, *options: str) -> tuple[int, str]:
    done = bench.command("models", "add", "blobs.onnx", "--name", "blobs", "--no-quantize", *options)
    return done.returncode, done.stderr


def test_a_family_that_the_model_is_not_of_is_refused_and_nothing_is_changed(bench: Bench) -> None:
    assert added(bench, "--family", "yolox") == (
        3,
        f"error: blobs ({bench.root}/blobs.onnx): it is not of the family yolox: got an output of shape [1, 6, 80]; "
        "expected [1, anchors, 7], as the family yolox has\n"
        "  next: Leave the family out (--family, or `family` in the catalog), it is found from the model: yolov8. "
        "Check the labels, too.\n",
    )
    assert (bench.root / "model_catalog.toml").read_text() == CATALOG
    assert not (bench.root / "models/blobs").exists()
    lock = bench.root / "mecha.lock"
    assert not lock.exists() or "blobs" not in lock.read_text()


def test_a_model_whose_family_is_not_found_is_taken_as_what_it_can_be(bench: Bench) -> None:
    model = onnx.load_from_string(blob_detector())
    onnx.helper.set_model_props(model, {"task": "find blobs", "names": "['red', 'green']"})
    onnx.save(model, bench.root / "blobs.onnx")
    code, said = added(bench, "--family", "detr")
    assert code == 3
    assert said.endswith(
        "  next: Leave the family out (--family, or `family` in the catalog). Check the labels, too.\n"
    )
    code, said = added(bench, "--family", "yolov8")
    assert code == 0, said
