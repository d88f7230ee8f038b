"""INT8 built again from what the device saw: published where it agrees better, and otherwise nothing has happened."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.service.conftest import Bench

from mecha.arena.camera import ArenaCamera
from mecha.detect.images import write_image
from mecha.errors import BusyError, QuantizationError
from mecha.project import find_project
from mecha.quantize.frames import built_in_scenes
from mecha.quantize.options import StaticOptions
from mecha.quantize.static import build_static
from mecha.service.contest import contested
from mecha.service.job import BuildJob, Rival
from mecha.service.models import ModelService
from mecha.store.digests import file_record
from mecha.store.locks import exclusive
from mecha.store.manifest import GateRecord, Int8Record, TunedSession, TuneRecord
from mecha.store.models import ModelStore
from mecha.store.published import PublishedModel


@dataclass(frozen=True)
class Drive:
    """Frames of the arena's camera, some distance apart."""

    count: int
    brightness: float = 1.0
    first: int = 0
    description: str = "frames of the arena"
    provisional: bool = False
    digest: str = "0" * 64

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        camera = ArenaCamera(width=320, height=240)
        for index in range(self.first, self.first + self.count):
            yield (camera.scene(index * 9).frame_bgr * self.brightness).astype(np.uint8)


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a node keeps it."""
    folder = tmp_path_factory.mktemp("seen")
    for index, frame in enumerate(Drive(24)):
        write_image(folder / f"frame-{index:03}.jpg", frame)
    return folder


# The ranges alone make a build right or blind: nothing makes up for them.
PLAIN = StaticOptions(
    range="mean_minmax", equalization=False, rounding=False, bias_correction=False, mixed_precision=False
)


@pytest.fixture(scope="session")
def poor(tmp_path_factory: pytest.TempPathFactory, pulled_once: Bench) -> Path:
    """An INT8 that was calibrated in the dark."""
    file = tmp_path_factory.mktemp("poor") / "poor.onnx"
    published = store(pulled_once).require("arena")
    build_static(published.fp32_path, file, Drive(8, brightness=0.03), published.spec, options=PLAIN)
    return file


def store(bench: Bench) -> ModelStore:
    return ModelStore(bench.root / "models")


def service(bench: Bench) -> ModelService:
    return ModelService(find_project(bench.root, {}), bench.environment)


def publish_int8(bench: Bench, int8: Path, **changes: object) -> PublishedModel:
    """Publish another INT8 file, as provisional as the one that was there, and not faster, so that no clock decides."""
    before = store(bench).require("arena")
    with store(bench).staging("arena") as staged:
        for name in before.manifest.files:
            shutil.copy(before.path / name, staged / name)
        (staged / "model-int8.onnx").unlink()
        shutil.copy(int8, staged / "model-int8.onnx")
        files = {**before.manifest.files, "model-int8.onnx": file_record(staged / "model-int8.onnx")}
        gate = GateRecord(verdict="slower", reason="measured")
        record = before.manifest.int8.model_copy(update={"gate": gate, **changes})
        return store(bench).publish(
            "arena", staged, before.manifest.model_copy(update={"files": files, "int8": record})
        )


def files_of(bench: Bench) -> dict[str, tuple[int, bytes]]:
    folder = bench.root / "models/arena"
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}


def test_what_agrees_better_takes_the_place_of_what_was_built_on_scenes_and_a_pull_keeps_it(
    pulled: Bench, seen: Path, poor: Path
) -> None:
    publish_int8(pulled, poor)
    shutil.rmtree(pulled.home / "cache")  # FP32 is there, in the model
    tuned = TuneRecord(device="x", onnxruntime="1", sessions={"FP32": TunedSession(threads=1)})
    store(pulled).remember("arena", tuned)

    report = service(pulled).rebuilds().recalibrate("arena", seen, seen_by="object-detector")

    assert report.published, report.message
    published = store(pulled).require("arena")
    int8 = published.manifest.int8
    assert report.message == int8.message
    assert "; on what the device saw: agreement 0." in int8.message
    assert int8.calibration is not None
    assert not int8.calibration.provisional
    assert int8.calibration.description == "18 photos of what object-detector saw"
    assert int8.calibration.seen_digest
    assert published.spec.int8 is not None
    assert not published.spec.int8.provisional
    assert published.manifest.tuned == tuned
    assert store(pulled).verify("arena") == ()
    # The pictures on the page are not those of the camera.
    assert json.loads(store(pulled).read("arena", "report.json"))["frames_description"].endswith(" built-in scenes")

    before = files_of(pulled)
    done = pulled.command("models", "pull", "arena")
    assert done.returncode == 0, done.stderr
    assert files_of(pulled) == before


def test_what_does_not_agree_better_changes_nothing(pulled: Bench, seen: Path) -> None:
    """FP32 itself stands for an INT8 that nothing can beat."""
    publish_int8(pulled, pulled.root / "models/arena/model.onnx")
    before = files_of(pulled)

    report = service(pulled).rebuilds().recalibrate("arena", seen, seen_by="object-detector")

    assert not report.published
    assert report.message.startswith("kept: agreement 0.9")
    assert report.message.endswith(" against 1.000")
    assert files_of(pulled) == before
    assert store(pulled).verify("arena") == ()


def test_an_int8_that_is_not_provisional_is_left_alone(pulled: Bench, seen: Path, poor: Path) -> None:
    calibration = store(pulled).require("arena").manifest.int8.calibration
    assert calibration is not None
    publish_int8(pulled, poor, calibration=calibration.model_copy(update={"provisional": False}))
    before = files_of(pulled)

    with pytest.raises(QuantizationError) as caught:
        service(pulled).rebuilds().recalibrate("arena", seen, seen_by="object-detector")

    assert str(caught.value) == "arena: got an INT8 that is not provisional; expected one built on scenes"
    assert files_of(pulled) == before


def test_a_model_that_somebody_is_making_is_not_waited_for(pulled: Bench, seen: Path) -> None:
    with exclusive(store(pulled).lock_file("arena"), timeout_s=0), pytest.raises(BusyError):
        service(pulled).rebuilds().recalibrate("arena", seen, seen_by="object-detector")


def test_a_model_that_is_changed_meanwhile_stays_as_it_was_changed(pulled: Bench, seen: Path, poor: Path) -> None:
    publish_int8(pulled, poor)
    changed = TuneRecord(device="x", onnxruntime="1", sessions={})

    def meanwhile(stage: str, completed: int, total: int | None) -> None:
        store(pulled).remember("arena", changed)

    report = service(pulled).rebuilds().recalibrate("arena", seen, seen_by="object-detector", progress=meanwhile)

    assert not report.published
    assert report.message == "kept: the model was changed meanwhile"
    assert store(pulled).require("arena").manifest.tuned == changed


def job(published: PublishedModel, folder: Path, int8: Path) -> BuildJob:
    shutil.copy(int8, folder / "model-int8.onnx")
    quantize = {"enabled": True, "method": "static_int8"}
    return BuildJob.model_validate(
        {
            "fp32": published.fp32_path,
            "out_dir": folder,
            "spec": published.spec,
            "quantize": quantize,
            "key": "k",
            "samples": 8,
            "threads": 1,
        }
    )


def built(verdict: str = "faster") -> Int8Record:
    gate = GateRecord.model_validate({"verdict": verdict, "reason": "1.01x"})
    return Int8Record(state="built", method="static_int8", message="built static_int8", gate=gate)


def test_a_build_that_is_better_in_the_dark_and_blind_in_daylight_is_not_published(
    pulled: Bench, poor: Path, tmp_path: Path
) -> None:
    published = store(pulled).require("arena")
    assert published.int8_path is not None
    plain = tmp_path / "plain.onnx"
    build_static(
        published.fp32_path, plain, built_in_scenes(32, seed=0, size=(320, 320)), published.spec, options=PLAIN
    )
    rival = Rival(file=plain, verdict="faster")
    dark = Drive(16, brightness=0.1, first=100)

    record = contested(job(published, tmp_path, poor), built(), rival, dark)

    assert record.state == "rejected"
    assert re.fullmatch(
        r"kept: agreement 0\.\d{3} against 0\.\d{3}, but 0\.\d{3} against 0\.\d{3} on built-in scenes", record.message
    )


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (built("slower"), "kept: 1.01x"),
        (
            built("wrong").model_copy(update={"state": "rejected"}),
            "kept: static_int8 is wrong: 1.01x",
        ),
    ],
    ids=["slower", "wrong"],
)
def test_what_the_gate_turns_down_is_not_measured_against_anything(
    pulled: Bench, poor: Path, tmp_path: Path, record: Int8Record, message: str
) -> None:
    published = store(pulled).require("arena")
    rival = Rival(file=tmp_path / "never looked at", verdict="faster")

    result = contested(job(published, tmp_path, poor), record, rival, Drive(1))

    assert (result.state, result.message) == ("rejected", message)


def test_frames_without_objects_decide_nothing(pulled: Bench, poor: Path, tmp_path: Path) -> None:
    published = store(pulled).require("arena")
    assert published.int8_path is not None

    result = contested(
        job(published, tmp_path, published.int8_path),
        built(),
        Rival(file=poor, verdict="faster"),
        Drive(4, brightness=0.0),
    )

    assert result.state == "rejected"
    assert result.message == "kept: FP32 finds too little on these frames to tell which agrees better"
