"""A bit that flips on the disk: `verify` finds it, and the next pull heals it with as little done again as can be."""

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from tests.service.conftest import Bench

from mecha.hub.mirror import RunningMirror
from mecha.words import size_words

WHOLE = "arena: every file is what its manifest says\n"


def flip(file: Path, *, at: int | None = None) -> None:
    """Flip one bit where it is on the disk, for whatever other names the file has as well."""
    mode = file.stat().st_mode
    file.chmod(0o644)
    with file.open("r+b") as opened:
        place = file.stat().st_size // 2 if at is None else at
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 0x04]))
    file.chmod(mode)


def digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def folder_of(bench: Bench) -> Path:
    return bench.root / "models" / "arena"


def recorded(bench: Bench, name: str) -> str:
    manifest = json.loads((folder_of(bench) / "manifest.json").read_text())
    return str(manifest["files"][name]["sha256"])


def blob_of(bench: Bench) -> Path:
    return bench.home / "cache/blobs" / recorded(bench, "model.onnx")


def build_of(bench: Bench) -> Path:
    manifest = json.loads((folder_of(bench) / "manifest.json").read_text())
    return bench.home / "cache/builds" / str(manifest["int8"]["key"])


def state(bench: Bench) -> str:
    rows = json.loads(bench.command("models", "list", "--json").stdout)["models"]
    return next(str(row["state"]) for row in rows if row["name"] == "arena")


def pull(bench: Bench, *options: str) -> dict[str, object]:
    done = bench.command("models", "pull", "arena", "--json", *options)
    assert done.returncode == 0, done.stderr
    last: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert bench.command("models", "verify", "arena").stdout == WHOLE
    assert state(bench) == "ready"
    return last


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("model.onnx", "comes from the cache"),
        ("model-int8.onnx", "comes from the cache"),
        ("labels.txt", "is written again"),
        ("config.json", "is written again"),
        ("report.html", "is written again"),
    ],
)
def test_a_file_that_is_damaged_in_the_project_only_is_healed_without_a_network(
    pulled: Bench, file: str, remedy: str
) -> None:
    target = folder_of(pulled) / file
    # A class name: config.json stays one that can be read.
    at = target.read_bytes().index(b"cone") if file in ("config.json", "labels.txt") else None
    int8, expected = digest(folder_of(pulled) / "model-int8.onnx"), recorded(pulled, file)
    flip(target, at=at)
    got = digest(target)
    found = pulled.command("models", "verify", "arena")
    assert found.returncode == 6
    assert found.stderr == (
        f"error: arena: {file}: sha256 {got}, expected sha256 {expected}\n"
        f"  next: `mecha models pull arena` makes it whole again: {file} {remedy}.\n"
    )
    assert state(pulled) == "broken"
    assert pull(pulled, "--offline")["downloaded_bytes"] == 0
    assert digest(target) == expected
    assert digest(folder_of(pulled) / "model-int8.onnx") == int8, "INT8 was not built again"


@pytest.mark.parametrize(
    ("text", "more"),
    [(b'"created": "2', set()), (b'"speedup": ', set()), (b'"model.onnx": {\n      "sha256": "', {"model.onnx"})],
)
def test_a_manifest_that_says_something_else_is_found_by_its_own_digest(
    pulled: Bench, text: bytes, more: set[str]
) -> None:
    manifest, int8 = folder_of(pulled) / "manifest.json", digest(folder_of(pulled) / "model-int8.onnx")
    content = manifest.read_bytes()
    at = content.index(text) + len(text)
    at += next(index for index, byte in enumerate(content[at:]) if byte in b"123")  # 5, 6 or 7 with the bit flipped
    flip(manifest, at=at)
    found = pulled.command("models", "verify", "arena", "--json")
    assert found.returncode == 6
    assert {fault["file"] for fault in json.loads(found.stdout)["faults"]} == {"manifest.json"} | more
    pull(pulled, "--offline")
    assert digest(folder_of(pulled) / "model-int8.onnx") == int8, "INT8 was not built again"


def test_int8_that_is_damaged_in_the_cache_as_well_is_built_again(pulled: Bench) -> None:
    target, cached = folder_of(pulled) / "model-int8.onnx", build_of(pulled) / "model-int8.onnx"
    target.unlink()
    os.link(cached, target)
    flip(target)
    damaged = digest(cached)
    found = pulled.command("models", "verify", "arena", "--json")
    assert found.returncode == 6
    (fault,) = json.loads(found.stdout)["faults"]
    assert (fault["file"], fault["remedy"]) == ("model-int8.onnx", "is built again")
    assert pull(pulled, "--offline")["method"] == "static_int8"
    assert digest(target) == digest(cached) != damaged


def test_int8_that_is_whole_is_kept_where_only_fp32_is_damaged_and_the_cache_lost_the_build(pulled: Bench) -> None:
    shutil.rmtree(build_of(pulled))
    int8 = digest(folder_of(pulled) / "model-int8.onnx")
    flip(folder_of(pulled) / "model.onnx")
    assert pulled.command("models", "verify", "arena").returncode == 6
    pull(pulled, "--offline")
    assert digest(folder_of(pulled) / "model-int8.onnx") == int8
    assert (build_of(pulled) / "model-int8.onnx").samefile(folder_of(pulled) / "model-int8.onnx")


def test_fp32_that_is_damaged_in_the_cache_as_well_is_downloaded_again(bench: Bench, served: bytes) -> None:
    assert bench.command("models", "pull", "arena", "--no-quantize").returncode == 0
    target = folder_of(bench) / "model.onnx"
    assert target.samefile(blob_of(bench)), "one file with two names"
    flip(target)
    found = bench.command("models", "verify", "arena")
    assert found.returncode == 6
    assert found.stderr.endswith(
        "  next: `mecha models pull arena` makes it whole again: "
        f"model.onnx is downloaded again ({size_words(len(served))}).\n"
    )
    assert pull(bench, "--no-quantize")["downloaded_bytes"] == len(served)
    assert target.read_bytes() == blob_of(bench).read_bytes() == served


def test_a_blob_that_is_damaged_in_the_cache_only_is_dropped_and_fetched_again(
    pulled: Bench, hub: RunningMirror, served: bytes, tmp_path: Path
) -> None:
    flip(blob_of(pulled))
    assert pulled.command("models", "verify", "arena").stdout == WHOLE
    other = Bench(tmp_path / "other", pulled.home, {"HF_ENDPOINT": hub.endpoint})
    other.root.mkdir()
    other.write_catalog((pulled.root / "model_catalog.toml").read_text())
    assert pull(other, "--no-quantize")["downloaded_bytes"] == len(served)
    assert (folder_of(other) / "model.onnx").read_bytes() == blob_of(pulled).read_bytes() == served


def test_a_suspicion_that_was_wrong_costs_one_reading(pulled: Bench) -> None:
    (folder_of(pulled) / ".damaged").write_text("model.onnx\n")
    assert state(pulled) == "broken"
    fault = "model.onnx: got other content; expected what the manifest says"
    assert f"  state      broken: {fault}\n" in pulled.command("models", "show", "arena").stdout
    shown = json.loads(pulled.command("models", "show", "arena", "--json").stdout)
    assert (shown["state"], shown["fault"]) == ("broken", fault)
    done = pulled.command("models", "pull", "arena")
    assert done.stdout == f"arena: complete in {folder_of(pulled)}, nothing to do\n"
    assert state(pulled) == "ready"
    assert "  state      ready\n" in pulled.command("models", "show", "arena").stdout


def test_a_model_that_cannot_be_read_is_shown_as_broken(pulled: Bench) -> None:
    (folder_of(pulled) / "manifest.json").write_text("{")
    done = pulled.command("models", "show", "arena")
    assert done.returncode == 0, done.stderr
    assert "  state      broken: manifest.json" in done.stdout
    shown = json.loads(pulled.command("models", "show", "arena", "--json").stdout)
    assert (shown["state"], shown["manifest"]) == ("broken", None)
    assert shown["fault"].startswith("manifest.json")


def test_what_stays_damaged_without_a_network_is_told_and_heals_when_there_is_one(bench: Bench, served: bytes) -> None:
    assert bench.command("models", "pull", "arena", "--no-quantize").returncode == 0
    flip(folder_of(bench) / "model.onnx")
    assert bench.command("models", "verify", "arena").returncode == 6
    done = bench.command("models", "pull", "arena", "--no-quantize", "--offline")
    assert (done.returncode, "Traceback" in done.stderr) == (5, False)
    assert state(bench) == "broken", "the mark stays until it is whole"
    assert pull(bench, "--no-quantize")["downloaded_bytes"] == len(served)
