"""`mecha models gc` and the quota of the cache, beside whatever else runs."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.service.conftest import Bench

from mecha.hub.mirror import RunningMirror
from mecha.store.blobs import BlobCache, packaged_models
from mecha.words import size_words

DIGEST = "5" * 64


@pytest.fixture
def fp32(bench: Bench) -> Bench:
    """A project with one model, FP32 only."""
    assert bench.command("models", "pull", "arena", "--no-quantize").returncode == 0
    return bench


def cache_of(bench: Bench) -> BlobCache:
    return BlobCache(bench.home / "cache")


def gc(bench: Bench, *options: str) -> dict[str, object]:
    done = bench.command("models", "gc", "--json", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def reasons(found: dict[str, object]) -> dict[str, tuple[bool, str]]:
    items = found["items"]
    assert isinstance(items, list)
    return {f"{item['kind']} {item['name']}": (item["goes"], item["reason"]) for item in items}


def unused(bench: Bench, key: str = DIGEST, content: bytes = b"x" * 5000) -> Path:
    """Put a download into the cache that nothing uses."""
    partial = cache_of(bench).partial("other")
    partial.write_bytes(content)
    return cache_of(bench).adopt(partial, key)


def blob_of(bench: Bench) -> Path:
    manifest = json.loads((bench.root / "models/arena/manifest.json").read_text())
    return cache_of(bench).path(manifest["files"]["model.onnx"]["sha256"])


def aged(path: Path, hours: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"x" * 2000)
    at = time.time() - hours * 3600
    os.utime(path, (at, at))
    return path


def test_what_a_node_a_project_or_a_lock_names_stays_and_the_rest_goes(fp32: Bench) -> None:
    cache, root = cache_of(fp32), fp32.root
    other, blob = unused(fp32), blob_of(fp32)
    before = gc(fp32, "--dry-run")
    assert reasons(before) == {
        "lock " + blob.name[:12] + ".lock": (True, "nothing is there that it could lock"),
        "download arena": (False, f"published as arena in {root}"),
        "download 555555555555": (True, "nothing on this device uses it"),
    }
    assert (before["dry_run"], before["freed_bytes"], before["quota_bytes"]) == (True, 5000, None)
    assert other.exists(), "a dry run removes nothing"
    config = root / "configs/common/nodes/eye/config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"model": "arena"}')
    after = gc(fp32)
    assert reasons(after)["download arena"] == (False, f"used by the node eye of {root}")
    assert (after["freed_bytes"], after["cache_bytes"]) == (5000, blob.stat().st_size)
    assert [path.name for path in (cache.root / "blobs").iterdir()] == [blob.name]
    assert fp32.command("models", "remove", "arena", "-y").returncode == 0
    assert reasons(gc(fp32))["download arena"] == (False, f"pinned in {root}/mecha.lock")
    (root / "mecha.lock").unlink()
    assert gc(fp32)["freed_bytes"] == after["cache_bytes"]
    assert not blob.exists()


def test_it_explains_itself_in_a_table(fp32: Bench) -> None:
    gc(fp32)
    unused(fp32)
    blob = blob_of(fp32)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    size = size_words(blob.stat().st_size)
    done = fp32.command("models", "gc", "--dry-run")
    assert done.stdout == (
        f"          KIND      NAME          SIZE    LAST USED   WHY\n"
        f"would go  download  555555555555  5.0 kB  {today}  nothing on this device uses it\n"
        f"stays     download  arena         {size}  {today}  published as arena in {fp32.root}\n"
        f"would free 5.0 kB; the cache {fp32.home}/cache takes {size_words(blob.stat().st_size + 5000)} (no quota)\n"
    )
    done = fp32.command("models", "gc", MECHA_CACHE_QUOTA="2")
    assert done.stdout.splitlines()[-1] == f"freed 5.0 kB; the cache {fp32.home}/cache takes {size} (quota 2.0 GB)"


def test_what_another_project_uses_stays(fp32: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other", fp32.home, fp32.environ)
    other.root.mkdir()
    other.write_catalog("")
    assert reasons(gc(other))["download arena"] == (False, f"published as arena in {fp32.root}")


def test_leftovers_go_and_young_partials_stay(fp32: Bench) -> None:
    root = fp32.home / "cache"
    aged(root / "partial" / ("a" * 64), 80)
    aged(root / "partial" / f"{'a' * 64}.json", 80)
    aged(root / "partial" / ("b" * 64), 3)
    aged(root / "builds" / ".key.4194399-7-3.staging" / "half", 0)
    aged(root / "builds" / "key.lock", 0)
    aged(root / "prepared" / "old", 100)
    aged(root / "prepared" / "new", 1)
    aged(fp32.root / "models" / ".gone.lock", 0)
    aged(fp32.root / "models" / ".arena.4194399-7-3.staging" / "half", 0)
    expected = {
        f"partial {'a' * 12}": (True, "80 h old: nobody went on with it for 72 h"),
        f"partial {'b' * 12}": (False, "3 h old: kept for 72 h, the next pull goes on with it"),
        "staging .key.4194399-7-3.staging": (True, "its process is gone"),
        "staging .arena.4194399-7-3.staging": (True, "its process is gone"),
        "lock key.lock": (True, "nothing is there that it could lock"),
        "lock .gone.lock": (True, "nothing is there that it could lock"),
        "prepared old": (True, "made again when a detector starts; not new for 72 h"),
        "prepared new": (False, "1 h old: kept for 72 h, made again when a detector starts"),
    }
    for options in (("--dry-run",), ()):
        found = reasons(gc(fp32, *options))
        assert {name: found.get(name) for name in expected} == expected
    assert sorted(path.name for path in (root / "partial").iterdir() if path.suffix != ".lock") == ["b" * 64]
    assert [path.name for path in (root / "builds").iterdir()] == []
    assert [path.name for path in (root / "prepared").iterdir()] == ["new"]
    assert not list((fp32.root / "models").glob(".*staging"))
    assert fp32.command("models", "verify", "arena").returncode == 0


def test_a_broken_manifest_or_lock_hides_nothing_and_loses_nothing(fp32: Bench) -> None:
    shutil.copytree(fp32.root / "models/arena", fp32.root / "models/broken")
    (fp32.root / "models/broken/manifest.json").write_text("{")
    unused(fp32)
    rows = json.loads(fp32.command("models", "list", "--json").stdout)["models"]
    assert {row["name"]: row["state"] for row in rows if row["name"] in ("arena", "broken")} == {
        "arena": "ready", "broken": "broken",
    }  # fmt: skip
    (fp32.root / "mecha.lock").write_text("files = [")
    found = reasons(gc(fp32))
    assert found["download arena"] == (False, f"published as arena in {fp32.root}")
    assert found["download 555555555555"] == (False, f"{fp32.root}/mecha.lock cannot be read, and may pin it")


def test_beside_a_pull_it_leaves_what_the_pull_works_on_and_says_so(bench: Bench) -> None:
    running = bench.start("models", "pull", "arena", "--no-quantize", "--limit-rate", "200k")
    folder = bench.home / "cache/partial"
    try:
        end = time.monotonic() + 60
        while not any(path.stat().st_size for path in folder.glob("*") if len(path.name) == len(DIGEST)):
            assert time.monotonic() < end
            time.sleep(0.01)
        (partial,) = (path for path in folder.glob("*") if len(path.name) == len(DIGEST))
        os.utime(partial, (1, 1))
        found = reasons(gc(bench))["partial mecha/arena-n/arena-n.onnx"]
        assert found == (False, f"process {running.pid} (download of arena-n.onnx) works on it")
    finally:
        output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert bench.command("models", "verify", "arena").returncode == 0


@pytest.mark.parametrize("how", ["environment", "settings"])
def test_a_pull_makes_room_for_what_it_put_in(bench: Bench, how: str) -> None:
    other = unused(bench)
    build = cache_of(bench)
    with build.build_staging("key") as staged:
        (staged / "model-int8.onnx").write_bytes(b"x" * 3000)
        build.adopt_build(staged, "key")
    size = len(packaged_models()[0].read_bytes())
    quota_gb = (size + 6500) / 1e9
    extra = {"MECHA_CACHE_QUOTA": str(quota_gb)} if how == "environment" else {}
    if how == "settings":
        settings = bench.root / "configs/common/mecha.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"[cache]\nquota_gb = {quota_gb:.9f}\n")
    done = bench.command("models", "pull", "arena", "--no-quantize", **extra)
    assert done.returncode == 0, done.stderr
    assert other.exists(), "INT8 can be built again and goes first; that was enough"
    assert not build.build_dir("key").exists()
    assert blob_of(bench).exists()
    again = bench.command("models", "pull", "arena", "--no-quantize", "--force", MECHA_CACHE_QUOTA="0")
    assert again.returncode == 0, again.stderr
    assert not other.exists()
    assert blob_of(bench).exists(), "what the pull needs stays, whatever the quota"


def test_a_quota_that_is_none_is_refused(bench: Bench) -> None:
    done = bench.command("models", "gc", MECHA_CACHE_QUOTA="2 GB")
    assert (done.returncode, done.stderr) == (
        2, 'error: MECHA_CACHE_QUOTA: got "2 GB"; expected gigabytes, 0 or more\n',
    )  # fmt: skip


def test_a_pull_that_does_not_fit_says_what_gc_would_free(bench: Bench, hub: RunningMirror, served: bytes) -> None:
    disk = bench.home / "cache"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size=4m none "{disk}" && mkdir "{disk}/blobs" && head -c 500000 /dev/zero '
        f'> "{disk}/blobs/{DIGEST}" && exec "$@"'
    )
    prefix = ("unshare", "-rm", "sh", "-c", script, "sh")
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    command = [*prefix, sys.executable, "-m", "mecha", "models", "pull", "arena"]
    done = subprocess.run(
        command, cwd=bench.root, env={**bench.environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 7
    size, int8 = size_words(len(served)), size_words(int(len(served) * 0.8))
    assert (
        f"mecha/arena-n/arena-n.onnx needs {size}, INT8 and staging {int8} and 64.0 MB stay free; got " in done.stderr
    )
    assert f" free on {disk}\n" in done.stderr
    assert done.stderr.endswith(
        " more are needed. Free some space, or use another disk: models are in the project, downloads in "
        "MECHA_CACHE_DIR. `mecha models gc` would free 500.0 kB.\n"
    )


def test_what_a_newer_mecha_has_written_is_refused_before_a_byte_is_fetched(fp32: Bench) -> None:
    manifest = fp32.root / "models/arena/manifest.json"
    document = json.loads(manifest.read_text())
    manifest.unlink()
    manifest.write_text(json.dumps({**document, "schema": 7}))
    done = fp32.command("models", "pull", "arena", "--no-quantize")
    assert (done.returncode, done.stderr) == (
        3,
        'error: model "arena" cannot be used: manifest.json: of a newer mecha: got schema 7; expected 1 at most\n'
        "  next: Upgrade mecha; or remove the model with `mecha models remove arena` and pull it again.\n",
    )
    assert json.loads(manifest.read_text())["schema"] == 7
    (fp32.home / "cache/.format").write_text("7\n")
    done = fp32.command("models", "gc")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        3, f"error: {fp32.home}/cache: the cache is of a newer mecha: got format 7; expected 1 at most",
    )  # fmt: skip
    assert fp32.command("models", "list").returncode == 0, "a list needs no cache"
