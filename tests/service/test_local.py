"""A model whose file is on this device: pulled once, it needs neither the file nor the network."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import tomli
from tests.detect.blob_detector import blob_detector
from tests.service.conftest import Bench

CATALOG = """
[[models]]
name = "blobs"
path = "custom/blobs.onnx"
{more}
"""
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A project with a model file of its own, on a device without a network."""
    bench = Bench(tmp_path / "robot", tmp_path / "home", {"HF_ENDPOINT": NOWHERE})
    (bench.root / "custom").mkdir(parents=True)
    bench.home.mkdir()
    (bench.root / "custom" / "blobs.onnx").write_bytes(blob_detector(64))
    bench.write_catalog(CATALOG.format(more=""))
    return bench


def run(bench: Bench, *arguments: str) -> str:
    done = bench.command("models", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_of_this_device_is_published_and_pinned_by_its_content(bench: Bench) -> None:
    run(bench, "pull", "blobs")
    content = (bench.root / "custom/blobs.onnx").read_bytes()
    assert (bench.root / "models/blobs/model.onnx").read_bytes() == content
    assert (bench.root / "models/blobs/labels.txt").read_text() == "red\ngreen\n"
    assert json.loads((bench.root / "models/blobs/manifest.json").read_text())["origin"] == {
        "repo": "",
        "filename": "custom/blobs.onnx",
        "revision": "",
        "requested_revision": "",
        "etag": "",
        "kind": "file",
    }
    (locked,) = tomli.loads((bench.root / "mecha.lock").read_text())["files"]
    assert (locked["repo_type"], locked["filename"]) == ("file", "custom/blobs.onnx")
    assert locked["sha256"] == sha256(content).hexdigest()
    assert f"origin     {bench.root}/custom/blobs.onnx\n" in run(bench, "show", "blobs")


def test_without_the_file_and_with_an_empty_cache_the_model_goes_on(bench: Bench) -> None:
    run(bench, "pull", "blobs")
    (bench.root / "custom/blobs.onnx").unlink()
    shutil.rmtree(bench.home / "cache")
    complete = f"blobs: complete in {bench.root}/models/blobs, nothing to do\n"
    assert run(bench, "pull", "blobs") == complete
    assert run(bench, "verify", "blobs") == "blobs: every file is what its manifest says\n"
    assert json.loads(run(bench, "quantize", "blobs", "--json").splitlines()[-1])["method"] == "static_int8"
    assert run(bench, "verify", "blobs") == "blobs: every file is what its manifest says\n"


def test_a_project_that_is_moved_keeps_its_model(bench: Bench, tmp_path: Path) -> None:
    run(bench, "pull", "blobs")
    moved = Bench(tmp_path / "elsewhere", bench.home, bench.environ)
    bench.root.rename(moved.root)
    assert run(moved, "pull", "blobs") == f"blobs: complete in {moved.root}/models/blobs, nothing to do\n"


def test_a_file_that_changes_is_told_and_taken_when_asked_for(bench: Bench) -> None:
    run(bench, "pull", "blobs")
    before = (bench.root / "models/blobs/model.onnx").read_bytes()
    trained = blob_detector(96)
    (bench.root / "custom/blobs.onnx").write_bytes(trained)
    assert run(bench, "pull", "blobs") == (
        f"blobs: complete in {bench.root}/models/blobs, nothing to do\n"
        "  custom/blobs.onnx is another file now; `mecha models pull blobs --force` takes it as it is\n"
    )
    assert (bench.root / "models/blobs/model.onnx").read_bytes() == before
    run(bench, "pull", "blobs", "--force")
    assert (bench.root / "models/blobs/model.onnx").read_bytes() == trained


def test_another_file_than_the_one_of_mecha_lock_is_refused(bench: Bench) -> None:
    """A second device, whose file is an older one."""
    run(bench, "pull", "blobs")
    pinned = sha256((bench.root / "custom/blobs.onnx").read_bytes()).hexdigest()
    shutil.rmtree(bench.root / "models")
    shutil.rmtree(bench.home / "cache")
    older = blob_detector(96)
    (bench.root / "custom/blobs.onnx").write_bytes(older)
    done = bench.command("models", "pull", "blobs")
    assert (done.returncode, done.stderr) == (
        6,
        f"error: custom/blobs.onnx: sha256 is {sha256(older).hexdigest()}, mecha.lock expects {pinned}\n"
        "  next: put the file back that it was, or take it as it is now with --force\n",
    )
    assert not (bench.root / "models/blobs").exists()


@pytest.mark.parametrize(
    ("more", "command", "code", "message"),
    [
        (
            f'sha256 = "{"0" * 64}"',
            ("pull", "blobs"),
            6,
            f"error: custom/blobs.onnx: sha256 is {sha256(blob_detector(64)).hexdigest()}, "
            f"the catalog expects {'0' * 64}\n",
        ),
        (
            "",
            ("pull", "blobs", "--revision", "v2"),
            2,
            "error: --revision: got v2; blobs is the file {root}/custom/blobs.onnx on this device, which has none\n",
        ),
        (
            'labels = "names.txt"',
            ("pull", "blobs"),
            4,
            "error: blobs: label file names.txt: {root}/custom/names.txt is no file; "
            "expected a text file of one class name a line\n",
        ),
    ],
    ids=["wrong sha256", "a revision", "no label file"],
)
def test_what_does_not_fit_the_file_is_said(
    bench: Bench, more: str, command: tuple[str, ...], code: int, message: str
) -> None:
    bench.write_catalog(CATALOG.format(more=more))
    done = bench.command("models", *command)
    assert done.returncode == code
    assert done.stderr.startswith(message.format(root=bench.root))
    assert not (bench.root / "models/blobs").exists()


def test_a_file_that_is_not_there_is_named(bench: Bench) -> None:
    (bench.root / "custom/blobs.onnx").unlink()
    done = bench.command("models", "pull", "blobs")
    assert (done.returncode, done.stderr) == (
        4,
        f"error: {bench.root}/custom/blobs.onnx: no such file; expected an ONNX model\n"
        "  next: Put the file there, or name another one.\n",
    )


def test_a_dry_run_says_what_it_would_take(bench: Bench) -> None:
    assert run(bench, "pull", "blobs", "--dry-run").splitlines() == [
        "blobs: file custom/blobs.onnx, licence unknown",
        f"  would download 0 B of {(bench.root / 'custom/blobs.onnx').stat().st_size / 1000:.1f} kB",
        "  would make no INT8",
    ]


def test_a_label_file_beside_the_model_is_read(bench: Bench) -> None:
    bench.write_catalog(CATALOG.format(more='labels = "names.txt"'))
    (bench.root / "custom/names.txt").write_text("rot\ngrün\n", encoding="utf-8")
    run(bench, "pull", "blobs")
    assert (bench.root / "models/blobs/labels.txt").read_text(encoding="utf-8") == "rot\ngrün\n"
