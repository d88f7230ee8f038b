"""Models carried on a stick: real commands, real bundles, two devices that never see each other."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.reliability.moments import commands
from tests.service.conftest import CATALOG, PLAIN, Bench

from mecha.catalog.catalog import read_catalog
from mecha.catalog.schema import CalibrationConfig
from mecha.errors import NotFoundError
from mecha.project import find_project
from mecha.quantize.key import build_key
from mecha.service import packing
from mecha.service.calibration import calibration_on_disk
from mecha.service.models import ModelService
from mecha.service.request import int8_key
from mecha.store.blobs import BlobCache
from mecha.store.digests import file_record
from mecha.store.lockfile import LockedFile, LockFile
from mecha.store.models import ModelStore
from mecha.store.revision import revise

NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}
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
LISTENER = """
import os, sys
def _hook(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.bind"):
        family = arguments[1] if event == "socket.__new__" else None
        if family != 1:  # AF_UNIX never leaves the machine
            with open(os.environ["SOCKET_LOG"], "a") as log:
                log.write(f"{sys.argv} {event} {arguments[1:]}\\n")
sys.addaudithook(_hook)
"""


@pytest.fixture(scope="session")
def bundle(pulled_once: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with its INT8, exported from a device whose Hub is gone."""
    file = tmp_path_factory.mktemp("stick") / "arena.tar"
    done = pulled_once.command("models", "export", "arena", "-o", str(file))
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture
def robot(tmp_path: Path) -> Bench:
    """Another device: a project that names no model, an empty cache, and no network."""
    return fresh(tmp_path / "robot")


def fresh(folder: Path) -> Bench:
    (folder / "project").mkdir(parents=True)
    (folder / "home").mkdir()
    bench = Bench(folder / "project", folder / "home", dict(NOWHERE))
    bench.write_catalog("# the models of this robot\n")
    return bench


def changed(bundle: Path, to: Path, change: Callable[[Any], None]) -> Path:
    """Write a bundle with something else in its index."""
    with tarfile.open(bundle) as old, tarfile.open(to, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            data = old.extractfile(member).read()  # type: ignore[union-attr]  # plain files
            if member.name == "index.json":
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return to


def last_line(done: "subprocess.CompletedProcess[str]") -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return what a user sees of a project: no lock, and nothing unfinished."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_the_same_model_exported_twice_is_the_same_file(pulled_once: Bench, bundle: Path, tmp_path: Path) -> None:
    done = pulled_once.command("models", "export", "arena", "arena", "-o", str(tmp_path / "again.tar"), "--json")
    told = last_line(done)
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()
    assert told["size_bytes"] == bundle.stat().st_size
    assert [(model["name"], model["licence"], model["left_out"]) for model in told["models"]] == [
        ("arena", "Apache-2.0", [])
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "again.tar"], "nothing unfinished stays beside it"


def test_an_export_says_what_is_in_the_bundle(pulled_once: Bench, tmp_path: Path) -> None:
    done = pulled_once.command("models", "export", "arena", "-o", str(tmp_path / "b.tar"))
    first, second = done.stdout.splitlines()
    assert first == "arena: FP32 and INT8 (licence Apache-2.0)"
    assert second.startswith(f"{tmp_path}/b.tar: 1 model, ")


def test_a_device_without_a_network_has_the_model_and_its_int8_from_the_bundle(
    pulled_once: Bench, bundle: Path, robot: Bench
) -> None:
    done = robot.command("models", "import", str(bundle))
    assert done.returncode == 0, done.stderr
    folder = robot.root / "models" / "arena"
    assert done.stdout.splitlines()[0] == f"arena: {folder} (licence Apache-2.0)"
    assert "  INT8 is that of the bundle: CPU and onnxruntime are alike" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == f"  added to {robot.root}/model_catalog.toml"
    before = snapshot(pulled_once.root / "models" / "arena")
    now = snapshot(folder)
    assert {name for name in before if before[name] != now.get(name)} <= {"manifest.json"}, "only its time is another"
    assert (robot.root / "mecha.lock").read_text() == (pulled_once.root / "mecha.lock").read_text()
    assert (robot.root / "model_catalog.toml").read_text().startswith("# the models of this robot\n")


def test_an_import_of_what_is_there_does_nothing(bundle: Path, robot: Bench) -> None:
    robot.command("models", "import", str(bundle))
    before = snapshot(robot.root)
    done = robot.command("models", "import", str(bundle))
    assert (done.returncode, done.stdout) == (0, f"arena: complete in {robot.root}/models/arena, nothing to do\n")
    assert last_line(robot.command("models", "import", str(bundle), "--json"))["models"][0]["int8"] == "unchanged"
    assert snapshot(robot.root) == before


def test_a_bundle_can_come_and_go_through_a_pipe(pulled_once: Bench, bundle: Path, robot: Bench) -> None:
    def piped(bench: Bench, *arguments: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "mecha", "models", *arguments]
        return subprocess.run(
            command, cwd=bench.root, env=bench.environment, input=data, capture_output=True, timeout=120, check=False
        )

    exported = piped(pulled_once, "export", "arena", "-o", "-")
    assert exported.stdout == bundle.read_bytes()
    assert b"1 model, " in exported.stderr
    imported = piped(robot, "import", "-", data=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    assert robot.command("models", "verify", "arena").returncode == 0


def test_int8_of_another_kind_of_device_is_built_again_here(bundle: Path, robot: Bench, tmp_path: Path) -> None:
    def of_another(document: Any) -> None:
        manifest = document["models"][0]["manifest"]
        manifest["device"]["cpu"], manifest["int8"]["key"] = "arm64+dot", "0" * 64
        # What is built here is no matter of this test, so let it be quick.
        document["models"][0]["entry"]["quantize"].update(method="dynamic_int8", escalate=False)

    foreign = changed(bundle, tmp_path / "foreign.tar", of_another)
    done = last_line(robot.command("models", "import", str(foreign), "--json"))
    model = done["models"][0]
    assert (model["int8"], model["method"]) == ("built", "dynamic_int8")
    assert model["note"].startswith("INT8 of the bundle was made for arm64+dot with onnxruntime ")
    assert model["note"].endswith(": built again here")
    builds = {path.name for path in (robot.home / "cache" / "builds").iterdir() if path.is_dir()}
    assert "0" * 64 not in builds, "a build under a key that is not of this device is not kept"


def test_int8_that_is_not_kept_and_cannot_be_built_leaves_fp32(bundle: Path, robot: Bench) -> None:
    robot.write_catalog(CATALOG.format(method="dynamic_int8", options="escalate = false"))
    settings = robot.root / "configs" / "common" / "mecha.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[quantize]\ntime_limit_s = 0.3\n")
    model = last_line(robot.command("models", "import", str(bundle), "--json"))["models"][0]
    assert (model["int8"], model["method"], model["added_to"]) == ("none", None, None)
    assert model["fault"] == "arena: INT8 was not ready after 0.3 s (quantize.time_limit_s)"
    assert model["note"] == (
        "INT8 of the bundle was made with other options than the catalog here names, or by another version of mecha: "
        "not kept"
    )
    assert robot.command("models", "verify", "arena").returncode == 0


def test_int8_that_a_person_made_is_kept_where_the_catalog_wants_none(
    bundle: Path, robot: Bench, tmp_path: Path
) -> None:
    def without(document: Any) -> None:
        document["models"][0]["entry"]["quantize"]["enabled"] = False

    plain = changed(bundle, tmp_path / "plain.tar", without)
    model = last_line(robot.command("models", "import", str(plain), "--json"))["models"][0]
    # A person made it by `mecha models quantize`: its key holds, so it is kept.
    assert model["int8"] == "kept"


def test_a_model_that_is_another_one_here_stays(bundle: Path, robot: Bench) -> None:
    robot.write_catalog('[[models]]\nname = "arena"\nrepo = "other/repo"\nfilename = "x.onnx"\n')
    done = robot.command("models", "import", str(bundle))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f'error: model "arena" is another one here: {robot.root}/model_catalog.toml names other/repo/x.onnx, '
        "the bundle has mecha/arena-n/arena-n.onnx",
        "  next: Nothing was imported. Rename the entry here, or name the models to import.",
    ]
    assert not (robot.root / "mecha.lock").exists()


def test_a_catalog_that_pins_another_file_is_obeyed(bundle: Path, robot: Bench) -> None:
    robot.write_catalog(CATALOG.format(method="auto", options="").replace("license", f'sha256 = "{"1" * 64}"\nlicense'))
    done = robot.command("models", "import", str(bundle))
    assert done.returncode == 2
    assert f"expects sha256 {'1' * 64}, the bundle has " in done.stderr


def test_only_some_models_of_a_bundle_are_taken_by_name(pulled: Bench, robot: Bench, tmp_path: Path) -> None:
    pulled.write_catalog((pulled.root / "model_catalog.toml").read_text() + SECOND)
    assert pulled.command("models", "pull", "again", "--offline").returncode == 0
    both = tmp_path / "both.tar"
    done = pulled.command("models", "export", "again", "arena", "-o", str(both))
    assert done.stdout.splitlines()[0] == "again: FP32 (licence Apache-2.0)"
    with tarfile.open(both) as tar:
        fp32 = (pulled.root / "models/arena/model.onnx").stat().st_size
        assert [member.size for member in tar].count(fp32) == 1, "both have the same FP32, stored once"
    done = robot.command("models", "import", str(both), "again")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (robot.root / "models").iterdir() if not path.name.startswith(".")] == ["again"]
    wrong = robot.command("models", "import", str(both), "arenna")
    assert wrong.returncode == 4
    assert wrong.stderr.splitlines() == [
        f'error: {both}: no model "arenna" in the bundle; did you mean "arena"?',
        "  next: It holds again, arena.",
    ]


SECOND = """
[[models]]
name = "again"
repo = "mecha/arena-n"
filename = "arena-n.onnx"
license = "Apache-2.0"
"""


def test_a_file_of_one_device_becomes_a_model_of_another(pulled: Bench, robot: Bench, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "best.onnx"
    file.parent.mkdir()
    shutil.copyfile(pulled.root / "models/arena/model.onnx", file)
    added = pulled.command("models", "add", str(file), "--name", "cones", "--labels", "a,b,c,d", "--no-quantize")
    assert added.returncode == 0, added.stderr
    assert pulled.command("models", "export", "cones", "-o", str(tmp_path / "c.tar")).returncode == 0
    file.unlink()
    assert robot.command("models", "import", str(tmp_path / "c.tar")).returncode == 0
    assert 'path = "cones.onnx"' in (robot.root / "model_catalog.toml").read_text()
    assert (robot.root / "models/cones/labels.txt").read_text() == "a\nb\nc\nd\n"
    again = robot.command("models", "pull", "cones", "--offline")
    assert again.stdout == f"cones: complete in {robot.root}/models/cones, nothing to do\n"


PHOTOS = """
[models.quantize.calibration]
path = "photos"
"""


def test_int8_that_was_calibrated_on_photos_of_the_device_is_kept_and_the_photos_stay(
    pulled: Bench, robot: Bench, tmp_path: Path
) -> None:
    photos = pulled.root / "photos"
    photos.mkdir()
    (photos / "one.jpg").write_bytes(b"no photo is opened here")
    pulled.write_catalog(CATALOG.format(method="static_int8", options=PLAIN + PHOTOS))
    rekeyed_as_if_built_from(photos, pulled)
    done = pulled.command("models", "export", "arena", "-o", str(tmp_path / "b.tar"))
    assert done.stdout.splitlines()[1] == (
        "  left out: the frames that INT8 was calibrated on (photos), they stay here"
    )
    model = last_line(robot.command("models", "import", str(tmp_path / "b.tar"), "--json"))["models"][0]
    assert (model["int8"], model["method"]) == ("kept", "static_int8")
    assert robot.command("models", "pull", "arena").stdout.endswith("nothing to do\n")


OF_A_REPO = """
[models.quantize.calibration]
repo = "owner/photos"
files = ["a.jpg", "b.jpg"]
"""


def test_calibration_photos_of_a_repo_are_carried_and_what_is_not_in_the_cache_is_told(
    pulled: Bench, robot: Bench, tmp_path: Path
) -> None:
    cache, blobs = BlobCache(pulled.home / "cache"), robot.home / "cache" / "blobs"
    lock = LockFile(pulled.root / "mecha.lock", guard=tmp_path / "guard")
    digests = {}
    for name in ("a.jpg", "b.jpg"):
        photo = tmp_path / name
        photo.write_bytes(f"no photo is opened here: {name}".encode())
        record = file_record(photo)
        digests[name] = record.sha256
        cache.adopt(photo, record.sha256)
        lock.put(
            LockedFile(
                repo="owner/photos",
                repo_type="dataset",
                filename=name,
                requested="main",
                revision="c0ffee",
                etag="e",
                sha256=record.sha256,
                size_bytes=record.size_bytes,
            )
        )
    pulled.write_catalog(CATALOG.format(method="static_int8", options=PLAIN + OF_A_REPO))
    both = sha256(" ".join(digests.values()).encode()).hexdigest()
    rekeyed(pulled, f"files 32 {both}")

    def carried(to: Bench, file: Path) -> Any:
        told = last_line(pulled.command("models", "export", "arena", "-o", str(file), "--json"))
        model = last_line(to.command("models", "import", str(file), "--json"))["models"][0]
        assert model["int8"] == "kept"
        assert to.command("models", "pull", "arena").stdout.endswith("nothing to do\n")
        return told["models"][0]["left_out"]

    assert carried(robot, tmp_path / "b.tar") == []
    assert digests.items() <= {item.filename: item.sha256 for item in entries_of(robot)}.items()
    assert {path.name for path in blobs.iterdir()} >= set(digests.values())
    cache.path(digests["b.jpg"]).unlink()
    other = fresh(tmp_path / "other")
    assert carried(other, tmp_path / "half.tar") == ["1 calibration photo of owner/photos, not in the cache here"]
    assert digests.items() <= {item.filename: item.sha256 for item in entries_of(other)}.items()


def entries_of(bench: Bench) -> tuple[LockedFile, ...]:
    return LockFile(bench.root / "mecha.lock", guard=bench.home / "guard").entries()


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


def rekeyed_as_if_built_from(photos: Path, bench: Bench) -> None:
    rekeyed(bench, calibration_on_disk(CalibrationConfig(path=str(photos)), bench.root).digest)


def rekeyed(bench: Bench, calibration_digest: str) -> None:
    """Give the INT8 of a model the key of a build from photos: building one takes half a minute."""
    (entry,) = read_catalog(bench.root / "model_catalog.toml", where="catalog")
    store = ModelStore(bench.root / "models")
    model = store.require("arena")
    key = int8_key(entry, model.manifest.files["model.onnx"].sha256, entry.quantize, calibration_digest)
    int8 = model.manifest.int8.model_copy(update={"key": key})
    revise(store, model, model.manifest.model_copy(update={"int8": int8}), {})


def test_an_adopted_file_is_kept_on_a_device_of_the_same_kind(bundle: Path, robot: Bench, tmp_path: Path) -> None:
    def adopted(document: Any) -> None:
        manifest = document["models"][0]["manifest"]
        fp32, int8 = (manifest["files"][name]["sha256"] for name in ("model.onnx", "model-int8.onnx"))
        manifest["int8"] |= {"method": "adopted", "key": build_key(fp32, "adopted", {"file": int8}, "")}

    theirs = changed(bundle, tmp_path / "adopted.tar", adopted)
    model = last_line(robot.command("models", "import", str(theirs), "--json"))["models"][0]
    assert (model["int8"], model["method"]) == ("kept", "adopted")


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


def test_everything_that_was_imported_works_without_a_socket(bundle: Path, robot: Bench, tmp_path: Path) -> None:
    audit, log = tmp_path / "audit", tmp_path / "sockets"
    audit.mkdir()
    (audit / "sitecustomize.py").write_text(LISTENER)
    extra = {"PYTHONPATH": str(audit), "SOCKET_LOG": str(log)}
    quick = CATALOG.format(method="dynamic_int8", options="escalate = false")
    for command in (
        ("models", "import", str(bundle)),
        ("models", "list"),
        ("models", "show", "arena"),
        ("models", "verify", "arena"),
        ("models", "pull", "arena"),
        ("models", "pull", "arena", "--offline"),
        ("models", "export", "arena", "-o", str(tmp_path / "out.tar")),
        ("detect", "arena://", "--model", "arena", "--int8", "--frames", "2"),
        ("models", "quantize", "arena", "--offline"),
    ):
        if "quantize" in command:
            robot.write_catalog(quick)
        done = robot.command(*command, **extra)
        assert done.returncode == 0, (command, done.stderr)
    assert not log.exists(), log.read_text()


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
