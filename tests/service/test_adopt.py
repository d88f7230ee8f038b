"""An INT8 file made elsewhere: measured like a build, published where it is right, else refused with the reason."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from tests.detect.blob_detector import Tail, blob_detector
from tests.detect.published_blobs import BlobFrames
from tests.service.conftest import Bench

from mecha.detect.preprocess import Preprocessor

CATALOG = """
[[models]]
name = "blobs"
path = "blobs.onnx"

[models.quantize]
method = "static_int8"
"""
UNCHANGED = "  next: Nothing was changed; `mecha models quantize blobs` makes INT8 on this device.\n"


class Squares(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """What onnxruntime's own quantizer calibrates on."""

    def __init__(self, size: int) -> None:
        preprocess = Preprocessor("yolo", size, size)
        self._tensors: Iterator[NDArray[np.float32]] = iter([preprocess(frame)[0].copy() for frame in BlobFrames(size)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {"images": tensor}


def made_elsewhere(folder: Path, *, size: int = 64, tail: Tail = "right") -> bytes:
    """Return an INT8 build of the blob detector by onnxruntime's own quantizer, its decode tail float."""
    fp32, int8 = folder / "fp32.onnx", folder / "elsewhere.onnx"
    fp32.write_bytes(blob_detector(size, tail=tail))
    trunk = [node.name for node in onnx.load(fp32).graph.node if node.op_type == "Conv"][:2]
    quantize_static(
        fp32, int8, Squares(size), nodes_to_quantize=trunk, per_channel=True, weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )  # fmt: skip
    return int8.read_bytes()


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made_elsewhere(tmp_path_factory.mktemp("right"))


@pytest.fixture(scope="module")
def pulled_blobs(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A project in which the blob detector was pulled and INT8 built from it."""
    folder = tmp_path_factory.mktemp("pulled")
    bench = Bench(folder / "robot", folder / "home", {"HF_ENDPOINT": "http://127.0.0.1:9"})
    bench.root.mkdir()
    bench.home.mkdir()
    (bench.root / "blobs.onnx").write_bytes(blob_detector())
    bench.write_catalog(CATALOG)
    done = bench.command("models", "pull", "blobs")
    assert done.returncode == 0, done.stderr
    return bench


def copied(bench: Bench, folder: Path) -> Bench:
    """Return a copy that a test may spoil."""
    shutil.copytree(bench.root, folder / "robot")
    shutil.copytree(bench.home, folder / "home")
    return Bench(folder / "robot", folder / "home", dict(bench.environ))


@pytest.fixture
def bench(pulled_blobs: Bench, tmp_path: Path) -> Bench:
    return copied(pulled_blobs, tmp_path)


@pytest.fixture
def adopted(adopted_once: Bench, tmp_path: Path) -> Bench:
    return copied(adopted_once, tmp_path)


@pytest.fixture(scope="module")
def adopted_once(pulled_blobs: Bench, tmp_path_factory: pytest.TempPathFactory, right: bytes) -> Bench:
    """The same with an INT8 file that was adopted."""
    bench = copied(pulled_blobs, tmp_path_factory.mktemp("adopted"))
    (bench.root / "good.onnx").write_bytes(right)
    done = bench.command("models", "adopt", "blobs", "good.onnx")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"blobs: {bench.root}/models/blobs\n  adopted good.onnx: ")
    return bench


def published(bench: Bench) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (bench.root / "models" / "blobs").iterdir()}


def int8_record(bench: Bench) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(published(bench)["manifest.json"])["int8"]
    return record


def edit_manifest(bench: Bench, change: Callable[[dict[str, Any]], None]) -> None:
    file = bench.root / "models/blobs/manifest.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_a_right_file_is_published_beside_fp32(adopted: Bench, right: bytes) -> None:
    files = published(adopted)
    assert files["model-int8.onnx"] == right
    assert files["model.onnx"] == blob_detector()
    record = int8_record(adopted)
    assert (record["state"], record["method"], record["calibration"]) == ("built", "adopted", None)
    assert record["gate"]["verdict"] in ("faster", "slower")
    assert json.loads(files["config.json"])["int8"]["method"] == "adopted"
    assert adopted.command("models", "verify", "blobs").returncode == 0
    assert "INT8       built: adopted good.onnx: " in adopted.command("models", "show", "blobs").stdout


def test_a_later_pull_lets_it_stand(adopted: Bench, right: bytes) -> None:
    before = published(adopted)
    done = adopted.command("models", "pull", "blobs")
    assert done.stdout == f"blobs: complete in {adopted.root}/models/blobs, nothing to do\n"
    (adopted.root / "models/blobs/labels.txt").unlink()
    assert adopted.command("models", "pull", "blobs").returncode == 0
    assert published(adopted)["model-int8.onnx"] == right
    assert published(adopted)["labels.txt"] == before["labels.txt"]
    assert int8_record(adopted)["method"] == "adopted"


def test_with_another_onnxruntime_it_is_measured_again_and_stands(adopted: Bench, right: bytes) -> None:
    key = int8_record(adopted)["key"]
    shutil.rmtree(adopted.home / "cache")
    edit_manifest(adopted, lambda document: document["int8"].update(key="0" * 64))
    done = adopted.command("models", "pull", "blobs", "--json")
    assert done.returncode == 0, done.stderr
    stages = {line["stage"] for line in map(json.loads, done.stdout.splitlines()) if line["event"] == "progress"}
    assert "gate" in stages
    assert stages.isdisjoint({"calibrate", "quantize"})
    record = int8_record(adopted)
    assert (record["key"], record["method"]) == (key, "adopted")
    assert record["message"].startswith("adopted the INT8 that was adopted: ")
    assert published(adopted)["model-int8.onnx"] == right


def test_where_it_is_not_right_any_more_int8_is_built(adopted: Bench, tmp_path: Path) -> None:
    moved = made_elsewhere(tmp_path, tail="moved")
    file = adopted.root / "models/blobs/model-int8.onnx"
    file.unlink()
    file.write_bytes(moved)

    def another_device(document: dict[str, Any]) -> None:
        from mecha.store.digests import file_record

        document["int8"]["key"] = "0" * 64
        document["files"]["model-int8.onnx"] = file_record(file).model_dump()

    edit_manifest(adopted, another_device)
    done = adopted.command("models", "pull", "blobs")
    assert done.returncode == 0, done.stderr
    assert int8_record(adopted)["method"] == "static_int8"
    assert done.stdout.splitlines()[1].startswith("  the INT8 that was adopted is wrong: ")
    assert "; built static_int8: " in done.stdout.splitlines()[1]


@pytest.mark.parametrize("command", [("quantize", "blobs"), ("pull", "blobs", "--method", "static_int8")], ids=" ".join)
def test_a_build_that_is_asked_for_takes_its_place(adopted: Bench, command: tuple[str, ...]) -> None:
    assert adopted.command("models", *command).returncode == 0
    assert int8_record(adopted)["method"] == "static_int8"


def test_another_fp32_does_not_keep_it(adopted: Bench) -> None:
    (adopted.root / "other.onnx").write_bytes(blob_detector(96))
    adopted.write_catalog(CATALOG.replace("blobs.onnx", "other.onnx"))
    assert adopted.command("models", "pull", "blobs").returncode == 0
    assert int8_record(adopted)["method"] == "static_int8"


def test_a_wrong_file_ends_with_8_and_nothing_is_changed(bench: Bench, tmp_path: Path) -> None:
    (bench.root / "moved.onnx").write_bytes(made_elsewhere(tmp_path, tail="moved"))
    before = published(bench)
    done = bench.command("models", "adopt", "blobs", "moved.onnx")
    assert done.returncode == 8
    assert "".join(done.stderr.splitlines(keepends=True)[-2:]) == (
        "error: blobs: moved.onnx is wrong: run whole, as other programs run it, the file gives something else than "
        f"cut before its decode tail: they overlap by 0.00; expected 0.9 or more\n{UNCHANGED}"
    )
    assert published(bench) == before


def renamed(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new if name == old else name
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name


def other_input(int8: bytes) -> bytes:
    model = onnx.load_from_string(int8)
    renamed(model, "images", "pixels")
    return bytes(model.SerializeToString())


def other_output(int8: bytes) -> bytes:
    model = onnx.load_from_string(int8)
    renamed(model, "output0", "found")
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda int8, folder: made_elsewhere(folder, size=96), "inputs: got images [1, 3, 96, 96] float32; "
         "expected those of FP32: images [1, 3, 64, 64] float32"),
        (lambda int8, folder: other_input(int8), "inputs: got pixels [1, 3, 64, 64] float32; "
         "expected those of FP32: images [1, 3, 64, 64] float32"),
        (lambda int8, folder: other_output(int8), "outputs: got found [1, 6, 80] float32; "
         "expected those of FP32: output0 [1, 6, 80] float32"),
        (lambda int8, folder: int8[:2000], "bad.onnx: got 2000 bytes that cannot be parsed; expected an ONNX model; "
         "the file is cut short, damaged or no ONNX"),
        (lambda int8, folder: b"<!doctype html>", "bad.onnx: got a web page; expected an ONNX model"),
    ],
    ids=["input size", "input name", "output name", "cut short", "web page"],
)  # fmt: skip
def test_a_file_that_cannot_take_the_place_of_fp32_is_unloadable(
    bench: Bench, right: bytes, tmp_path: Path, spoil: Callable[[bytes, Path], bytes], reason: str
) -> None:
    (bench.root / "bad.onnx").write_bytes(spoil(right, tmp_path))
    before = published(bench)
    done = bench.command("models", "adopt", "blobs", "bad.onnx")
    assert done.returncode == 8
    assert "".join(done.stderr.splitlines(keepends=True)[-2:]) == (
        f"error: blobs: bad.onnx is unloadable: {reason}\n{UNCHANGED}"
    )
    assert published(bench) == before


def test_a_model_that_is_not_int8_is_refused(bench: Bench) -> None:
    done = bench.command("models", "adopt", "blobs", "blobs.onnx")
    assert (done.returncode, done.stderr) == (
        8,
        "error: blobs.onnx: holds no quantized node; expected an INT8 file\n"
        "  next: `mecha models add blobs.onnx --name NAME` adds a model that is not INT8.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blobs", "none.onnx"), "error: none.onnx: no such file; expected an INT8 ONNX file\n"),
        (("blobs", "models"), "error: models: a folder; expected an INT8 ONNX file\n"),
        (("yolov8n", "blobs.onnx"), 'error: model "yolov8n" is not pulled: '),
    ],
    ids=["no file", "a folder", "not pulled"],
)
def test_what_is_not_there_is_named(bench: Bench, arguments: tuple[str, str], message: str) -> None:
    done = bench.command("models", "adopt", *arguments)
    assert done.returncode == 4
    assert done.stderr.startswith(message)


def test_a_model_without_fp32_takes_no_int8(bench: Bench, right: bytes) -> None:
    (bench.root / "int8.onnx").write_bytes(right)
    bench.write_catalog(CATALOG.replace("blobs.onnx", "int8.onnx"))
    assert bench.command("models", "pull", "blobs").returncode == 0
    done = bench.command("models", "adopt", "blobs", "int8.onnx")
    assert (done.returncode, done.stderr) == (
        3,
        "error: blobs: model.onnx is INT8 already; there is no FP32 to measure int8.onnx against\n"
        "  next: `mecha models add int8.onnx --name NAME` adds it as a model of its own.\n",
    )


def test_a_measurement_over_its_time_limit_changes_nothing(bench: Bench, right: bytes) -> None:
    settings = bench.root / "configs" / "common" / "mecha.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[quantize]\ntime_limit_s = 0.1\n")
    (bench.root / "good.onnx").write_bytes(right)
    before = published(bench)
    done = bench.command("models", "adopt", "blobs", "good.onnx")
    assert (done.returncode, done.stderr) == (
        8,
        "error: blobs: INT8 was not ready after 0.1 s (quantize.time_limit_s)\n"
        "  next: FP32 works; raise quantize.time_limit_s in configs/common/mecha.toml, "
        "then run `mecha models adopt blobs good.onnx`\n",
    )
    assert published(bench) == before


def test_json_lines_end_with_what_became_of_it(bench: Bench, right: bytes, tmp_path: Path) -> None:
    (bench.root / "moved.onnx").write_bytes(made_elsewhere(tmp_path, tail="moved"))
    (bench.root / "good.onnx").write_bytes(right)
    last = {}
    for file, code in (("moved.onnx", 8), ("good.onnx", 0)):
        done = bench.command("models", "adopt", "blobs", file, "--json")
        assert done.returncode == code
        last[file] = json.loads(done.stdout.splitlines()[-1])
    assert last["moved.onnx"] == {
        "event": "done",
        "name": "blobs",
        "path": str(bench.root / "models" / "blobs"),
        "file": "moved.onnx",
        "verdict": "wrong",
        "speedup": None,
        "agreement": last["moved.onnx"]["agreement"],
        "message": last["moved.onnx"]["fault"],
        "method": None,
        "changed": False,
        "fault": last["moved.onnx"]["fault"],
    }
    assert last["moved.onnx"]["fault"].startswith("moved.onnx is wrong: ")
    assert (last["good.onnx"]["method"], last["good.onnx"]["changed"], last["good.onnx"]["fault"]) == (
        "adopted", True, None,
    )  # fmt: skip
