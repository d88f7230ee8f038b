"""A model of the user's own: added and pulled in one step, or refused with everything as it was."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import onnx
import pytest
import tomli
from tests.detect.blob_detector import blob_detector
from tests.detect.published_blobs import int8_blobs
from tests.service.conftest import Bench

from mecha.catalog.catalog import read_catalog
from mecha.hub.mirror import RunningMirror

CATALOG = """\
# What this robot looks for.

[[models]]
name = "arena"  # the packaged one
repo = "mecha/arena-n"
filename = "arena-n.onnx"
"""
DETECTORS = "yolov8, yolov5, yolox, end_to_end, detr or nanodet"


@pytest.fixture
def bench(tmp_path: Path, hub: RunningMirror) -> Bench:
    bench = Bench(tmp_path / "robot", tmp_path / "home", {"HF_ENDPOINT": hub.endpoint})
    (bench.root / "custom").mkdir(parents=True)
    bench.home.mkdir()
    bench.write_catalog(CATALOG)
    (bench.root / "custom" / "blobs.onnx").write_bytes(blob_detector())
    return bench


def run(bench: Bench, *arguments: str) -> str:
    done = bench.command("models", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def catalog_text(bench: Bench) -> str:
    return (bench.root / "model_catalog.toml").read_text()


def labels(bench: Bench, name: str) -> list[str]:
    return (bench.root / "models" / name / "labels.txt").read_text().splitlines()


def test_a_file_is_added_to_the_catalog_and_published_with_int8(bench: Bench) -> None:
    done = run(bench, "add", "custom/blobs.onnx", "--name", "blobs")
    assert done.startswith(
        f"blobs: added to {bench.root}/model_catalog.toml\n"
        f"blobs: {bench.root}/models/blobs (licence unknown)\n  built static_int8: "
    )
    assert catalog_text(bench) == (
        CATALOG + '\n[[models]]\nname = "blobs"\npath = "custom/blobs.onnx"\n\n'
        '[models.quantize]\nenabled = true\nmethod = "auto"\n'
    )
    assert labels(bench, "blobs") == ["red", "green"]
    assert (bench.root / "models/blobs/model-int8.onnx").is_file()
    (locked,) = tomli.loads((bench.root / "mecha.lock").read_text())["files"]
    assert locked["sha256"] == sha256(blob_detector()).hexdigest()


def test_it_goes_on_without_the_file_and_without_a_network(bench: Bench) -> None:
    run(bench, "add", "custom/blobs.onnx", "--name", "blobs", "--no-quantize")
    (bench.root / "custom/blobs.onnx").unlink()
    offline = Bench(bench.root, bench.home, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert run(offline, "pull", "blobs") == f"blobs: complete in {bench.root}/models/blobs, nothing to do\n"
    assert run(offline, "quantize", "blobs").splitlines()[1].startswith("  built static_int8: ")
    assert run(offline, "verify", "blobs") == "blobs: every file is what its manifest says\n"
    assert "blobs" in run(offline, "list")
    assert f"origin     {bench.root}/custom/blobs.onnx" in run(offline, "show", "blobs")


def test_all_that_is_said_of_it_stands_in_the_entry(bench: Bench) -> None:
    (bench.root / "names.txt").write_text("cone\nball\n")
    run(
        bench, "add", "custom/blobs.onnx", "--name", "blobs", "--no-quantize", "--family", "yolov8", "--preset", "yolo",
        "--labels", "names.txt", "--license", "MIT", "--description", "Cones and balls",
    )  # fmt: skip
    entry = read_catalog(bench.root / "model_catalog.toml", where="c")[-1]
    assert (entry.family, entry.preprocessing_preset, entry.license) == ("yolov8", "yolo", "MIT")
    assert (entry.description, entry.label_names) == ("Cones and balls", ("cone", "ball"))
    assert not entry.quantize.enabled
    assert labels(bench, "blobs") == ["cone", "ball"]


def test_names_between_commas_are_labels(bench: Bench) -> None:
    run(bench, "add", "custom/blobs.onnx", "--name", "blobs", "--no-quantize", "--labels", "cone, ball")
    assert labels(bench, "blobs") == ["cone", "ball"]


def test_a_file_outside_of_the_project_is_named_by_its_whole_path(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "best.onnx"
    file.write_bytes(blob_detector())
    run(bench, "add", "../best.onnx", "--name", "best", "--no-quantize")
    assert f'path = "{file}"' in catalog_text(bench)


def test_a_file_that_is_int8_already_is_added_as_it_is(bench: Bench) -> None:
    (bench.root / "custom/int8.onnx").write_bytes(int8_blobs())
    done = run(bench, "add", "custom/int8.onnx", "--name", "blobs")
    assert done.splitlines()[2] == "  the file is INT8 already: taken as it is, with no FP32 to measure it against"


def test_outside_of_projects_it_is_added_to_the_user_s_own_catalog(bench: Bench, tmp_path: Path) -> None:
    elsewhere = Bench(tmp_path / "elsewhere", bench.home, dict(bench.environ))
    elsewhere.root.mkdir()
    (elsewhere.root / "blobs.onnx").write_bytes(blob_detector())
    run(elsewhere, "add", "blobs.onnx", "--name", "blobs", "--no-quantize")
    user = bench.home / ".local/share/mecha"
    assert f'path = "{elsewhere.root}/blobs.onnx"' in (user / "model_catalog.toml").read_text()
    assert (user / "models/blobs/model.onnx").is_file()


def test_a_file_of_the_hub_is_added_with_its_entry_and_pulled(bench: Bench) -> None:
    done = run(bench, "add", "mecha/arena-n/arena-n.onnx", "--name", "mine", "--no-quantize", "--json")
    last = json.loads(done.splitlines()[-1])
    assert (last["event"], last["name"], last["changed"]) == ("done", "mine", True)
    assert last["downloaded_bytes"] > 0
    assert catalog_text(bench) == (
        CATALOG + '\n[[models]]\nname = "mine"\nrepo = "mecha/arena-n"\nfilename = "arena-n.onnx"\n'
    )
    assert labels(bench, "mine") == ["cone", "ball", "crate", "tag"]


def embedding() -> bytes:
    """A network that gives one vector for a picture."""
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            onnx.helper.make_node("Flatten", ["pooled"], ["vector"]),
        ],
        "embedding",
        [onnx.helper.make_tensor_value_info("image", 1, [1, 3, 64, 64])],
        [onnx.helper.make_tensor_value_info("vector", 1, [1, 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("none.onnx",),
            4,
            "none.onnx: no such file; expected an ONNX file, or owner/repo/path/to/file.onnx of the Hub",
        ),
        (("custom",), 4, "custom: a folder; expected an ONNX file, or owner/repo/path/to/file.onnx of the Hub"),
        (
            ("https://hub/a/b/m.onnx",),
            4,
            "https://hub/a/b/m.onnx: no such file; expected an ONNX file, or owner/repo/path/to/file.onnx of the Hub",
        ),
        (("page.onnx",), 6, "{root}/custom/page.onnx: got a web page; expected an ONNX model"),
        (
            ("short.onnx",),
            6,
            "{root}/custom/short.onnx: got 3000 bytes that cannot be parsed; expected an ONNX model; "
            "the file is cut short, damaged or no ONNX",
        ),
        (
            ("vector.onnx",),
            3,
            "new ({root}/custom/vector.onnx): got outputs vector [1, 3] float32; "
            "expected a detector's: yolov8, yolov5, yolox, end_to_end, detr, nanodet",
        ),
        (("blobs.onnx", "--family", "yolo"), 2, f'--family: got "yolo"; expected {DETECTORS}'),
        (("blobs.onnx", "--method", "int4"), 2, '--method: got "int4"; expected dynamic_int8, static_int8 or auto'),
        (("blobs.onnx", "--input-size", "16"), 2, "--input-size: got 16; expected pixels, from 32 to 4096"),
        (
            ("blobs.onnx", "--input-size", "96"),
            3,
            "new: input_size is 96, the model takes 64x64 and nothing else",
        ),
        (("blobs.onnx", "--labels", "a,b,c"), 3, "new: labels has 3 names, the model has 2 classes"),
        (
            ("blobs.onnx", "--labels", "none.txt"),
            4,
            "--labels: none.txt: no such file; expected a text file of one class name a line, coco, "
            "or names: cone,ball",
        ),
        (
            ("blobs.onnx", "--revision", "v2"),
            2,
            "--revision: got v2; custom/blobs.onnx is a file on this device, which has none",
        ),
        (
            ("blobs.onnx", "--preset", "ssd", "--family", "yolo"),
            2,
            '--preset: got "ssd"; expected yolo, yolox, detr, nanodet, imagenet or raw\n'
            f'--family: got "yolo"; expected {DETECTORS}',
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_added_is_said_and_nothing_is_changed(
    bench: Bench, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (bench.root / "custom/page.onnx").write_text("<!doctype html>")
    (bench.root / "custom/short.onnx").write_bytes(blob_detector()[:3000])
    (bench.root / "custom/vector.onnx").write_bytes(embedding())
    source = f"custom/{arguments[0]}"
    source = source if (bench.root / source).is_file() else arguments[0]
    done = bench.command("models", "add", source, "--name", "new", *arguments[1:])
    assert done.returncode == code, done.stderr
    assert f"error: {message.replace('{root}', str(bench.root))}\n" in done.stderr
    assert catalog_text(bench) == CATALOG
    assert not (bench.root / "mecha.lock").exists()
    assert not (bench.root / "models/new").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arena", '--name: "arena" is taken: {root}/model_catalog.toml has an entry of this name'),
        ("Cones", '--name: got "Cones"; expected a name of lower-case letters, digits, . _ and -, at most 64, '
         "starting with a letter or digit"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_is_refused(bench: Bench, name: str, message: str) -> None:
    done = bench.command("models", "add", "custom/blobs.onnx", "--name", name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message.format(root=bench.root)}\n")
    assert catalog_text(bench) == CATALOG


def test_a_name_of_the_package_is_taken_too(bench: Bench) -> None:
    done = bench.command("models", "add", "custom/blobs.onnx", "--name", "yolov8n")
    assert done.returncode == 2
    assert 'error: --name: "yolov8n" is taken: ' in done.stderr
    assert done.stderr.endswith("  next: Take another name; `mecha models pull yolov8n` pulls the one that is there.\n")


def test_a_published_model_that_no_catalog_names_is_not_replaced(bench: Bench) -> None:
    run(bench, "add", "custom/blobs.onnx", "--name", "blobs", "--no-quantize")
    bench.write_catalog(CATALOG)
    (bench.root / "other.onnx").write_bytes(blob_detector(96))
    done = bench.command("models", "add", "other.onnx", "--name", "blobs")
    assert (done.returncode, done.stderr) == (
        2,
        f'error: --name: "blobs" is taken: {bench.root}/models/blobs holds a model that no catalog names\n'
        "  next: Take another name; `mecha models remove blobs` removes the one that is there.\n",
    )
    run(bench, "add", "custom/blobs.onnx", "--name", "blobs", "--no-quantize")
    assert '"blobs"' in catalog_text(bench), "what was cut off before the catalog was written is taken up again"


def test_what_is_neither_here_nor_on_the_hub_is_told_of_both(bench: Bench) -> None:
    done = bench.command("models", "add", "runs/train/best.onnx", "--name", "new")
    assert done.returncode == 4
    assert done.stderr.splitlines()[0].startswith("error: runs/train/best.onnx: no such file here, and of the Hub: ")
    assert catalog_text(bench) == CATALOG


def test_a_catalog_that_cannot_be_written_leaves_nothing_published(bench: Bench) -> None:
    bench.write_catalog('models = [{ name = "a", repo = "a/b", filename = "m.onnx" }]\n')
    before = catalog_text(bench)
    done = bench.command("models", "add", "custom/blobs.onnx", "--name", "blobs", "--no-quantize")
    assert done.returncode == 3
    assert "models is not written as [[models]] tables, so mecha does not change it" in done.stderr
    assert catalog_text(bench) == before
    assert not (bench.root / "models/blobs").exists()


@pytest.mark.shared_data
def test_a_real_model_that_is_no_detector_is_refused(bench: Bench, shared_data: Path) -> None:
    shutil.copy(shared_data / "models" / "deepsort_feature.onnx", bench.root / "custom")
    done = bench.command("models", "add", "custom/deepsort_feature.onnx", "--name", "new")
    assert done.returncode == 3
    assert "expected a detector's: yolov8, yolov5, yolox, end_to_end, detr, nanodet" in done.stderr
    assert catalog_text(bench) == CATALOG
    assert not (bench.root / "mecha.lock").exists()
