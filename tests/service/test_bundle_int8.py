"""INT8 in a bundle: kept where it is right, built again where it is not, with or without its photos."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.service.bundles import changed, last_line
from tests.service.conftest import CATALOG, PLAIN, Bench, fresh

from mecha.catalog.catalog import read_catalog
from mecha.catalog.schema import CalibrationConfig
from mecha.quantize.key import build_key
from mecha.service.calibration import calibration_on_disk
from mecha.service.request import int8_key
from mecha.store.blobs import BlobCache
from mecha.store.digests import file_record
from mecha.store.lockfile import LockedFile, LockFile
from mecha.store.models import ModelStore
from mecha.store.revision import revise


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
