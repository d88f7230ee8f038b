"""Exports and imports that cannot be, that are killed, or of what is no bundle."""

import json
from pathlib import Path

import pytest
from tests.reliability.moments import commands
from tests.service.bundles import snapshot
from tests.service.conftest import NOWHERE, Bench, fresh

from mecha.errors import NotFoundError
from mecha.project import find_project
from mecha.service import packing
from mecha.service.models import ModelService
from mecha.store.models import ModelStore
from mecha.store.revision import revise

# Kills its process at the n-th change of a file that it makes, or counts the changes.
KILLER = """
import os, signal, sys
_at, _log, _count = int(os.environ["KILL_AT"]), os.environ["KILL_LOG"], 0
def _hook(event, arguments):
    global _count
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
    if not (writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link")):
        return
    where = [text for text in map(str, arguments[:2]) if text.startswith(os.environ["KILL_WITHIN"]) and text != _log]
    if not where:
        return
    _count += 1
    if _count == _at:
        os.kill(os.getpid(), signal.SIGKILL)
    if not _at:
        with os.fdopen(os.open(_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "w") as log:
            log.write(f"{event} {where[0]}\\n")
sys.addaudithook(_hook)
"""


def test_space_is_asked_for_before_a_byte_is_written(pulled_once: Bench, bundle: Path, robot: Bench) -> None:
    patched = robot.home / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(
        "import collections, shutil\n"
        "shutil.disk_usage = lambda path: collections.namedtuple('usage', 'total used free')(10**9, 0, 10**6)\n"
    )
    out = robot.home / "out.tar"
    exported = pulled_once.command("models", "export", "arena", "-o", str(out), PYTHONPATH=str(patched))
    assert exported.returncode == 7
    assert exported.stderr.startswith(f"error: {robot.home}: the bundle out.tar needs 2.")
    assert " and 64.0 MB stay free; got 1.0 MB free" in exported.stderr
    imported = robot.command("models", "import", str(bundle), PYTHONPATH=str(patched))
    assert imported.returncode == 7
    assert imported.stderr.startswith(f"error: {robot.home}/cache: {bundle} needs 2.")
    assert "`mecha models gc` would free nothing." in imported.stderr
    assert not out.exists()
    assert not (robot.root / "mecha.lock").exists()


def test_broken_and_missing_models_are_not_exported(pulled: Bench, tmp_path: Path) -> None:
    out = tmp_path / "b.tar"
    missing = pulled.command("models", "export", "yolov8n", "-o", str(out))
    assert missing.returncode == 4
    assert f'error: model "yolov8n" is not pulled: {pulled.root}/models/yolov8n has no manifest.json' in missing.stderr
    model = pulled.root / "models/arena/model-int8.onnx"
    rotten = bytearray(model.read_bytes())
    rotten[100] ^= 1
    model.unlink()
    model.write_bytes(rotten)
    broken = pulled.command("models", "export", "arena", "-o", str(out))
    assert broken.returncode == 6
    assert broken.stderr.startswith("error: arena: model-int8.onnx: sha256 ")
    assert "; a broken model is not exported\n  next: `mecha models pull arena" in broken.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "code", "said"),
    [
        (".", 2, "error: -o .: is a folder; expected a file\n  next: For example -o bundle.tar."),
        (
            "nowhere/b.tar",
            4,
            "error: -o nowhere/b.tar: no folder nowhere\n"
            "  next: Make it, or mount what it is on: no folder is made for a bundle.",
        ),
    ],
)
def test_a_place_where_no_bundle_can_be_is_told_at_once(pulled_once: Bench, out: str, code: int, said: str) -> None:
    done = pulled_once.command("models", "export", "arena", "-o", out)
    assert (done.returncode, done.stderr) == (code, f"{said}\n")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("no.tar", 4, "no.tar: no such file; expected a bundle that `mecha models export` wrote"),
        ("models", 4, "models: a folder; expected a bundle that `mecha models export` wrote"),
        ("model_catalog.toml", 6, "model_catalog.toml: not a tar; expected a bundle"),
    ],
)
def test_what_is_no_bundle_is_refused(robot: Bench, name: str, code: int, said: str) -> None:
    (robot.root / "models").mkdir()
    done = robot.command("models", "import", name)
    assert (done.returncode, done.stderr.splitlines()[0]) == (code, f"error: {said}")


def test_a_bundle_that_was_cut_off_changes_nothing(bundle: Path, robot: Bench, tmp_path: Path) -> None:
    half = tmp_path / "half.tar"
    half.write_bytes(bundle.read_bytes()[: bundle.stat().st_size // 2])
    before = snapshot(robot.root)
    done = robot.command("models", "import", str(half))
    assert done.returncode == 6
    assert done.stderr.splitlines()[-2].endswith(": the bundle was cut off")
    assert done.stderr.splitlines()[-1] == "  next: Nothing was imported. Copy the bundle again, or export it again."
    assert snapshot(robot.root) == before
    kept = {path.split("/")[0] for path in snapshot(robot.home / "cache")}
    assert kept.isdisjoint({"blobs", "builds", "imports"}), "not even in the cache"


def test_bytes_that_are_no_model_leave_catalog_and_lock_as_they_were(
    pulled: Bench, robot: Bench, tmp_path: Path
) -> None:
    """Every digest is right, and still it is no ONNX."""
    store = ModelStore(pulled.root / "models")
    model = store.require("arena")
    revise(store, model, model.manifest, {"model.onnx": bytes(range(256)) * 10})
    exported = pulled.command("models", "export", "arena", "-o", str(tmp_path / "noise.tar"))
    assert exported.returncode == 0, exported.stderr
    before = snapshot(robot.root)
    done = robot.command("models", "import", str(tmp_path / "noise.tar"))
    assert done.returncode in (3, 6)
    assert "Traceback" not in done.stderr
    assert snapshot(robot.root) == before


def test_killed_at_any_moment_of_an_import_all_is_recovered(bundle: Path, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(KILLER)
    log = tmp_path / "changes"

    def imported(bench: Bench, at: int) -> int:
        extra = {"KILL_AT": str(at), "KILL_LOG": str(log), "KILL_WITHIN": str(bench.root.parent)}
        return bench.command("models", "import", str(bundle), PYTHONPATH=str(hook), **extra).returncode

    assert imported(fresh(tmp_path / "counted"), 0) == 0
    count = len(log.read_text().splitlines())
    assert count > 20, "there are many moments to be killed at"
    for number in range(6):
        at = 1 + number * (count - 1) // 5
        bench = fresh(tmp_path / f"robot{at}")
        assert imported(bench, at) == -9, f"at {log.read_text().splitlines()[at - 1]}"
        afterwards = (("list", "--json"), ("verify", "arena"), ("pull", "arena"), ("import", str(bundle)))
        listed, verified, pulled, again, at_last = commands(
            bench, *(("models", *words) for words in (*afterwards, ("verify", "arena")))
        )
        state = {row["name"]: row["state"] for row in json.loads(listed.said)["models"]}.get("arena")
        assert (state, verified.code) in [(None, 4), ("available", 4), ("fp32-only", 0), ("ready", 0)], verified.said
        # Before its entry is in the catalog, nobody knows the name.
        assert pulled.code == (4 if state is None else 0), pulled.said
        assert (again.code, at_last.code) == (0, 0), again.said
        left = [path.name for path in (bench.home / "cache" / "imports").glob(".*")]
        assert left == [] or "nothing to do" in again.said


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_model_that_is_removed_while_it_is_exported_is_told_as_not_pulled(
    pulled: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Removed before a file is read, or once some of it is written."""
    service = ModelService(find_project(pulled.root, pulled.environment), NOWHERE)
    out = tmp_path / "stick" / "arena.tar"
    out.parent.mkdir()
    told = 0

    def progress(_stage: str, _completed: int, _total: int | None) -> None:
        nonlocal told
        if told == calls:
            service.remove("arena")
        told += 1

    if calls == 0:
        monkeypatch.setattr(packing, "_require_whole", lambda *_: progress("export", 0, None))
    with pytest.raises(NotFoundError, match="arena"):
        service.bundles(progress).export(["arena"], out)
    assert list(out.parent.iterdir()) == []
