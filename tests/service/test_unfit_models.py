"""Models that are whole and cannot be used: the sentence, the exit code, and that nothing is lost."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from tests.graph import unfit
from tests.graph.networks import yolov8_network
from tests.service.conftest import Bench, make_bench

from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import UnsupportedModelError
from mecha.hub.mirror import running_mirror
from mecha.hub.source import RemoteFile, RepoType
from mecha.progress import silent
from mecha.service.fetch import Fetcher, Wanted
from mecha.service.inspection import onnx_check
from mecha.store.blobs import BlobCache
from mecha.store.lockfile import LockFile

SHARED = "deepsort_feature.onnx"
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "good.onnx": yolov8_network,
    "new.onnx": lambda: unfit.of_opset(99),
    "old.onnx": lambda: unfit.of_opset(6),
    "format.onnx": lambda: unfit.of_ir_version(99),
    "split.onnx": unfit.with_other_file,
    "nan.onnx": lambda: unfit.with_weight(np.nan),
    "infinite.onnx": lambda: unfit.with_weight(np.inf),
    "grey.onnx": lambda: unfit.with_channels(1),
    "alpha.onnx": lambda: unfit.with_channels(4),
    "batch.onnx": lambda: unfit.with_batch(8),
    "two.onnx": unfit.with_second_input,
    "overflow.onnx": unfit.overflowing,
}
CATALOG = """
[[models]]
name = "m"
repo = "mecha/m"
filename = "{file}"

[models.quantize]
enabled = {enabled}
method = "{method}"
escalate = false
"""
RUNTIME = f"onnxruntime {onnxruntime.__version__}"
FIRST = yolov8_network().graph.node[0]
IMAGE = "expected one image [1, 3, height, width] float32"
IMAGE_HINT = "Export the model again, in FP32 and with channels before height and width."
UPGRADE = "or install a newer onnxruntime: pip install --upgrade onnxruntime."
DIVERGED = "The training diverged, or an export to half precision overflowed; export the model again, in float32."


OVERFLOWS = {
    "static_int8": "calibration: tensor T holds values that are not finite; expected numbers",
    "dynamic_int8": "the outputs of FP32 itself hold NaN or infinity; expected numbers",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A project with a published model, and a running server with models that must not take its place."""
    folder = tmp_path_factory.mktemp("unfit")
    repo = folder / "hub" / "mecha" / "m"
    repo.mkdir(parents=True)
    for name, make in MODELS.items():
        (repo / name).write_bytes(make().SerializeToString())
    with running_mirror(folder / "hub") as running:
        bench = make_bench(folder / "project", folder / "home", running.endpoint)
        choose(bench, "good.onnx")
        done = bench.command("models", "pull", "m")
        assert done.returncode == 0, done.stderr
        yield bench


def choose(bench: Bench, file: str, *, method: str = "") -> None:
    """Name a file in the catalog; INT8 is made of it where a method is given."""
    enabled = "true" if method else "false"
    bench.write_catalog(CATALOG.format(file=file, enabled=enabled, method=method or "static_int8"))


def kept(bench: Bench) -> dict[str, bytes]:
    """What a refused model must leave as it is."""
    files = {path.name: path.read_bytes() for path in (bench.root / "models" / "m").iterdir()}
    return {**files, "mecha.lock": (bench.root / "mecha.lock").read_bytes()}


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        (
            "new.onnx",
            f"mecha/m/new.onnx: got opset 99; expected at most N, the newest that {RUNTIME} runs",
            f"Export the model again with opset 17, {UPGRADE}",
        ),
        (
            "old.onnx",
            "mecha/m/old.onnx: got opset 6; expected 7 or later, the oldest that onnxruntime runs",
            "Export the model again with opset 13 or later.",
        ),
        (
            "format.onnx",
            f"mecha/m/format.onnx: got IR version 99; expected at most N, the newest that {RUNTIME} reads",
            f"Export the model again with an older onnx package, {UPGRADE}",
        ),
        (
            "split.onnx",
            "mecha/m/split.onnx: got a graph whose weights are in weights.data; "
            "expected one file that holds graph and weights",
            "Put both files into one folder and make them one: "
            "python -c \"import onnx; onnx.save_model(onnx.load_model('split.onnx'), 'whole.onnx')\"",
        ),
        (
            "nan.onnx",
            f"mecha/m/nan.onnx: weights {FIRST.input[1]} of {FIRST.name}: got NaN; expected numbers",
            DIVERGED,
        ),
        (
            "infinite.onnx",
            f"mecha/m/infinite.onnx: weights {FIRST.input[1]} of {FIRST.name}: got infinity; expected numbers",
            DIVERGED,
        ),
        ("grey.onnx", f"m (mecha/m/grey.onnx): got inputs images [1, 1, 64, 64] float32; {IMAGE}", IMAGE_HINT),
        ("alpha.onnx", f"m (mecha/m/alpha.onnx): got inputs images [1, 4, 64, 64] float32; {IMAGE}", IMAGE_HINT),
        ("batch.onnx", f"m (mecha/m/batch.onnx): got inputs images [8, 3, 64, 64] float32; {IMAGE}", IMAGE_HINT),
        (
            "two.onnx",
            f"m (mecha/m/two.onnx): got inputs images [1, 3, 64, 64] float32, sizes [1, 2] int64; {IMAGE}",
            IMAGE_HINT,
        ),
    ],
    ids=lambda value: value if value.endswith(".onnx") else "",
)
def test_a_model_that_cannot_run_here_is_refused_and_nothing_changes(
    project: Bench, file: str, message: str, hint: str
) -> None:
    before = kept(project)
    choose(project, file)
    done = project.command("models", "pull", "m")
    assert done.returncode == 3, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith(("downloading ", "licence of "))]
    assert [re.sub(r"at most \d+", "at most N", line) for line in said] == [f"error: {message}", f"  next: {hint}"]
    assert kept(project) == before


@pytest.mark.shared_data
def test_a_model_that_is_no_detector_is_refused_with_what_it_gives(project: Bench, shared_data: Path) -> None:
    before = kept(project)
    file = project.root.parent / "hub" / "mecha" / "m" / SHARED
    shutil.copy(shared_data / "models" / SHARED, file)
    choose(project, SHARED)
    done = project.command("models", "pull", "m")
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-2:] == [
        f"error: m (mecha/m/{SHARED}): got outputs output [batch_size, 512] float32; "
        "expected a detector's: yolov8, yolov5, yolox, end_to_end, detr, nanodet",
        "  next: mecha decodes object detectors; export the model with its head, without masks or keypoints.",
    ]
    assert kept(project) == before


@pytest.mark.parametrize("method", ["static_int8", "dynamic_int8"])
def test_int8_of_a_model_that_overflows_ends_in_a_sentence_and_fp32_stays(project: Bench, method: str) -> None:
    choose(project, "overflow.onnx", method=method)
    done = project.command("models", "pull", "m")
    assert done.returncode == 0, done.stderr
    fault, hint = done.stderr.splitlines()[-2:]
    assert re.sub(r"tensor \w+", "tensor T", fault) == f"  FP32 is ready; INT8 is not: {OVERFLOWS[method]}"
    before = kept(project)
    again = project.command("models", "quantize", "m")
    assert again.returncode == 8
    assert again.stderr.splitlines()[-2:] == [fault.replace("  FP32 is ready; INT8 is not", "error"), hint]
    after = kept(project)
    assert after["model.onnx"] == before["model.onnx"]
    assert project.command("models", "verify", "m").returncode == 0


def test_int8_is_made_from_grey_photos_as_from_others(project: Bench) -> None:
    photos = project.root / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(48, 64), (48, 64, 4), (48, 64, 3), (64, 48)] * 3):
        cv2.imwrite(str(photos / f"{number}.png"), rng.integers(0, 256, shape, dtype=np.uint8))
    choose(project, "good.onnx", method="static_int8")
    catalog = project.root / "model_catalog.toml"
    catalog.write_text(f'{catalog.read_text()}\n[models.quantize.calibration]\npath = "photos"\n')
    done = project.command("models", "pull", "m")
    assert done.returncode == 0, done.stderr
    assert "FP32 is ready" not in done.stderr


class GiantSource:
    """A Hub whose files are larger than an ONNX file can be; nobody answers where their bytes are."""

    def resolve(self, repo: str, filename: str, *, revision: str = "main", repo_type: RepoType = "model") -> RemoteFile:
        return RemoteFile(
            repo=repo,
            filename=filename,
            repo_type=repo_type,
            commit="1" * 40,
            url="http://127.0.0.1:9/bytes",
            etag="e",
            size_bytes=3 * 2**30,
            sha256="0" * 64,
        )

    def elsewhere(self, remote: RemoteFile) -> Iterator[RemoteFile]:
        raise AssertionError("nothing may be asked")

    def list_files(self, repo: str, *, revision: str = "main", repo_type: RepoType = "model") -> tuple[str, ...]:
        return ()

    def licence(self, repo: str, *, revision: str = "main") -> str | None:
        return None


@pytest.mark.parametrize("here", [False, True], ids=["on the Hub", "on this device"])
def test_a_file_beyond_two_gigabytes_is_refused_before_a_byte_of_it_is_fetched(tmp_path: Path, *, here: bool) -> None:
    file = tmp_path / "huge.onnx"
    with file.open("wb") as sparse:
        sparse.truncate(3 * 2**30)  # it takes no space
    lock = LockFile(tmp_path / "mecha.lock", guard=tmp_path / "guard")
    fetcher = Fetcher(BlobCache(tmp_path / "cache"), lock, GiantSource)
    entry = ModelCatalogEntry(name="m", repo="mecha/m", filename="huge.onnx")
    wanted = Wanted(repo="" if here else "mecha/m", filename="huge.onnx", file=file if here else None)
    with pytest.raises(UnsupportedModelError) as refusal:
        fetcher.fetch(wanted, silent, check=onnx_check(entry))
    assert str(refusal.value) == "mecha/m/huge.onnx: got 3221225472 bytes; expected an ONNX model of at most 2 GB"
    assert refusal.value.hint == (
        "Export a smaller model; weights beyond 2 GB need files of their own, which mecha does not read."
    )
    inside = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size]
    assert not [path for path in inside if path.name != ".format"]
    assert not (tmp_path / "mecha.lock").exists()
