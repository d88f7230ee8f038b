"""What a user can do wrong with `mecha models`: the sentence, the exit code, and that nothing is lost."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.service.conftest import CATALOG, Bench, make_bench

from mecha.hub.mirror import RunningMirror, running_mirror


def changed(**keys: str) -> str:
    """The catalog with other values for some keys."""
    text = CATALOG.format(method="static_int8", options="")
    for key, value in keys.items():
        old = next((line for line in text.splitlines() if line.startswith(f"{key} = ")), None)
        line = f'{key} = "{value}"'
        text = text.replace(old, line) if old else text.replace("\n[models.quantize]", f"{line}\n\n[models.quantize]")
    return text


def test_an_unknown_model_is_named_with_the_nearest_one(bench: Bench) -> None:
    done = bench.command("models", "pull", "yolov8m")
    assert done.returncode == 4
    assert done.stderr == (
        'error: model "yolov8m" is not in the catalog; did you mean "yolov8s"?\n'
        "  next: `mecha models list` shows what can be pulled.\n"
    )


@pytest.mark.parametrize(
    ("keys", "code", "message"),
    [
        ({"repo": "mecha/nothing"}, 4, "mecha/nothing"),
        ({"filename": "arena-m.onnx"}, 4, "arena-n.onnx"),
        ({"filename": "page.onnx"}, 6, "HF_ENDPOINT"),
        ({"filename": "noise.onnx"}, 6, "expected an ONNX model"),
        ({"sha256": "0" * 64}, 6, f"the catalog expects {'0' * 64}"),
        ({"revision": "v9"}, 4, "v9"),
        ({"labels": "three.txt"}, 3, "label file three.txt has 3 names, the model has 4 classes"),
    ],
    ids=["missing repo", "missing file", "web page", "no ONNX", "wrong sha256", "missing revision", "labels"],
)
def test_what_is_wrong_upstream_is_said_and_publishes_nothing(
    bench: Bench, keys: dict[str, str], code: int, message: str
) -> None:
    bench.write_catalog(changed(**keys))
    done = bench.command("models", "pull", "arena")
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: ")
    assert done.stderr.splitlines()[-1].startswith("  next: ")
    assert message in done.stderr
    assert not (bench.root / "models" / "arena").exists()


def test_a_catalog_fault_names_line_key_and_the_nearest_known_key(bench: Bench) -> None:
    bench.write_catalog(changed().replace("filename", "filenme").replace("static_int8", "int4"))
    done = bench.command("models", "pull", "arena")
    assert done.returncode == 3
    assert 'model_catalog.toml:6: models[0].filenme: unknown key; did you mean "filename"?' in done.stderr
    assert (
        'model_catalog.toml:12: models[0].quantize.method: got "int4"; expected dynamic_int8, static_int8 or auto'
        in done.stderr
    )


def test_401_says_whether_a_token_was_sent_and_never_shows_it(tmp_path: Path, hub_folder: Path) -> None:
    with running_mirror(hub_folder, token="right-token-123") as private:
        bench = make_bench(tmp_path / "p", tmp_path / "h", private.endpoint)
        without = bench.command("models", "pull", "arena")
        wrong = bench.command("-v", "models", "pull", "arena", HF_TOKEN="wrong-token-456")
        right = bench.command("models", "pull", "arena", "--no-quantize", HF_TOKEN="right-token-123")
    assert (without.returncode, wrong.returncode, right.returncode) == (5, 5, 0)
    assert "401" in without.stderr
    assert "no token" in without.stderr
    assert "HF_TOKEN" in wrong.stderr
    assert "wrong-token-456" not in wrong.stderr + wrong.stdout


def test_no_network_says_who_did_not_answer(tmp_path: Path) -> None:
    bench = make_bench(tmp_path / "p", tmp_path / "h", "http://127.0.0.1:9")
    done = bench.command("models", "pull", "arena")
    assert done.returncode == 5
    assert "127.0.0.1:9" in done.stderr


def test_offline_with_nothing_here_says_so(bench: Bench) -> None:
    done = bench.command("models", "pull", "arena", "--offline")
    assert done.returncode == 5
    assert "offline" in done.stderr.lower()


def test_a_failed_pull_leaves_what_was_published(pulled: Bench) -> None:
    before = {path.name: path.read_bytes() for path in (pulled.root / "models/arena").iterdir()}
    pulled.write_catalog(changed(repo="mecha/elsewhere"))
    assert pulled.command("models", "pull", "arena").returncode == 5
    after = {path.name: path.read_bytes() for path in (pulled.root / "models/arena").iterdir()}
    assert after == before


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small tmpfs at a folder; skipped where this user may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_refused_before_the_first_byte_with_figures(bench: Bench, hub: RunningMirror) -> None:
    with mounted(bench.home / "cache", "size=3m"):
        served = hub.bytes_served
        done = bench.command("models", "pull", "arena")
    assert done.returncode == 7
    assert "free" in done.stderr
    assert hub.bytes_served - served < 4096
    assert not (bench.root / "models" / "arena").exists()


def test_a_disk_that_fills_while_publishing_keeps_the_model_that_was_there(pulled: Bench) -> None:
    """The models folder is on a disk of its own with no room for a second copy."""
    model = pulled.root / "models" / "arena"
    size = sum(path.stat().st_size for path in model.iterdir())
    aside = pulled.root / "aside"
    shutil.move(pulled.root / "models", aside)
    with mounted(pulled.root / "models", f"size={size + 200_000}"):
        shutil.copytree(aside / "arena", model)
        before = (model / "manifest.json").read_bytes()
        done = pulled.command("models", "pull", "arena", "--no-quantize", "--offline", "--force")
        assert done.returncode in (5, 7)
        done = pulled.command("models", "quantize", "arena")
        assert done.returncode == 7, done.stderr
        assert "no space left" in done.stderr
        assert (model / "manifest.json").read_bytes() == before
        assert pulled.command("models", "verify", "arena").returncode == 0


def test_a_read_only_models_folder_is_named(pulled: Bench) -> None:
    with mounted(pulled.root / "ro", "size=1m,ro"):
        shutil.rmtree(pulled.root / "models")
        (pulled.root / "models").symlink_to(pulled.root / "ro")
        done = pulled.command("models", "pull", "arena", "--offline")
    assert done.returncode == 7
    assert "read-only" in done.stderr
