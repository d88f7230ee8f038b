"""INT8 built again from what a node sees: when it begins, when it waits, and what it leaves alone."""

import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.arena.camera import ArenaCamera
from mecha.detect.detections import Detections, StageTimes
from mecha.detect.detector import Result
from mecha.errors import ConfigError
from mecha.project import SelfCalibrationSettings, cache_dir
from mecha.runtime.attempts import Attempts
from mecha.runtime.kept_frames import ENOUGH_OBJECTS, KeptFrames
from mecha.runtime.self_calibration import Periods, SelfCalibration
from mecha.store.locks import exclusive
from mecha.store.models import ModelStore
from mecha.store.published import PublishedModel
from tests.processes import below
from tests.runtime.projects import make_project
from tests.runtime.provisional import CATALOG, FP32, NAME, SCENES, poor_int8, publish_provisional
from tests.runtime.waiting import wait_for

QUICK = Periods(model=0.02, power=0.02, again=0.05, disk=0.02)
FRAMES = 16


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return poor_int8(tmp_path_factory.mktemp("poor") / "poor.onnx")


@pytest.fixture(scope="module")
def seen() -> list[NDArray[np.uint8]]:
    camera = ArenaCamera(width=320, height=240)
    return [camera.scene(index * 9).frame_bgr for index in range(FRAMES + 4)]


@pytest.fixture
def root(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.INFO)
    root = make_project(tmp_path / "project")
    (root / "model_catalog.toml").write_text(CATALOG)
    settings(root, frames=FRAMES, period_s=0)
    return root


@pytest.fixture
def cool(tmp_path: Path) -> Path:
    """A /sys that objects to nothing."""
    root = tmp_path / "sys"
    (root / "devices/system/cpu/cpufreq/policy0").mkdir(parents=True)
    set_governor(root, "schedutil")
    return root


def set_governor(root: Path, name: str) -> None:
    (root / "devices/system/cpu/cpufreq/policy0/scaling_governor").write_text(name)


def settings(root: Path, **values: object) -> None:
    file = root / "configs/common/mecha.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {str(value).lower()}" for key, value in values.items()]
    file.write_text("\n".join(["[self_calibration]", *lines, ""]))


def frames_folder() -> Path:
    return cache_dir(os.environ) / "self-calibration"


def result(model: PublishedModel, objects: int = 4) -> Result:
    """What a detector would say of a frame."""
    found = Detections(
        np.zeros((objects, 4), np.float32), np.ones(objects, np.float32), np.zeros(objects, np.int64), ("cone",)
    )
    digest = model.manifest.files["model-int8.onnx"].sha256
    return Result(found, StageTimes(0.0, 0.0, 0.0), "INT8", digest)


@contextmanager
def calibrating(
    root: Path, model: PublishedModel, seen: list[NDArray[np.uint8]], sys_root: Path, *, objects: int = 4
) -> Iterator[SelfCalibration]:
    """Run it beside a thread that shows frames."""
    calibration = SelfCalibration(
        root, "object-detector", logging.getLogger("object-detector"), sys_root=sys_root, periods=QUICK
    )
    over = threading.Event()

    def show() -> None:
        for frame in cycle(seen):
            if over.wait(0.002):
                return
            calibration.offer(frame, result(model, objects), NAME)

    calibration.switch(on=True)
    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield calibration
    finally:
        over.set()
        thread.join()
        calibration.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "object-detector"]


def says(caplog: pytest.LogCaptureFixture, start: str) -> Callable[[], str]:
    return lambda: next((line for line in lines(caplog) if line.startswith(start)), "")


def bytes_of(model: PublishedModel) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.path.iterdir()}


BEGINS = (
    "Self-calibration: INT8 of arena-n was built on scenes; keeping 16 frames of what is seen here (self_calibrate)"
)
BUILDS = "Self-calibration: 16 frames kept, building INT8 in the background"


def test_int8_that_does_not_agree_better_changes_nothing_and_is_not_tried_again_for_a_day(
    root: Path, seen: list[NDArray[np.uint8]], cool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FP32 stands for an INT8 that nothing can beat."""
    model = publish_provisional(root, FP32)
    before = bytes_of(model)

    with calibrating(root, model, seen, cool):
        line = wait_for(says(caplog, "Self-calibration: INT8 of arena-n is kept: "), timeout_s=240)
    with calibrating(root, model, seen, cool):  # the next start
        again = wait_for(says(caplog, "Self-calibration: tried at "))

    assert line.endswith(" against 1.000")
    attempts = Attempts(root / "models")
    attempt = attempts.recent(model)
    assert attempt is not None
    assert line == f"Self-calibration: INT8 of arena-n is {attempt.message}"
    assert again == f"Self-calibration: tried at {attempt.at}: {attempt.message}; again a day later"
    assert lines(caplog) == [BEGINS, BUILDS, line, again]
    assert bytes_of(model) == before
    assert attempts.recent(model, now=datetime.now(UTC) + timedelta(days=1, minutes=1)) is None
    assert [path.name for path in frames_folder().iterdir() if path.is_dir()] == []


def test_what_another_int8_came_to_says_nothing_of_this_one(root: Path, poor: Path) -> None:
    attempts = Attempts(root / "models")
    attempts.note(publish_provisional(root, FP32), "kept: x")
    assert attempts.recent(publish_provisional(root, poor)) is None


def test_a_throttled_device_waits_and_goes_on_when_it_is_cool(
    root: Path, poor: Path, seen: list[NDArray[np.uint8]], cool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = publish_provisional(root, poor)
    set_governor(cool, "powersave")

    with calibrating(root, model, seen, cool):
        waits = "Self-calibration: 16 frames kept, the build waits: the CPU's governor is powersave"
        wait_for(says(caplog, waits), timeout_s=30)
        assert below("mecha.runtime.rebuild_child") == []
        set_governor(cool, "schedutil")
        wait_for(says(caplog, BUILDS), timeout_s=30)
        wait_for(lambda: below("mecha.runtime.rebuild_child"), timeout_s=30)
        set_governor(cool, "powersave")
        ended = "Self-calibration: the build is ended: the CPU's governor is powersave"
        wait_for(says(caplog, ended), timeout_s=30)
        wait_for(lambda: not below("mecha.runtime.rebuild_child"))

    assert lines(caplog) == [BEGINS, waits, BUILDS, ended]
    assert ModelStore(root / "models").require(NAME).manifest == model.manifest
    assert [path.name for path in frames_folder().iterdir() if path.is_dir()] == []


def test_a_disk_that_refuses_frames_is_asked_again_until_it_takes_them(
    root: Path, poor: Path, seen: list[NDArray[np.uint8]], cool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = publish_provisional(root, poor)
    set_governor(cool, "powersave")  # no build
    frames_folder().parent.mkdir(parents=True, exist_ok=True)
    frames_folder().write_text("no folder")

    with calibrating(root, model, seen, cool):
        waits = (
            f"Self-calibration: waits until the disk takes frames again: {frames_folder()}: cannot make the folder: "
        )
        refused = wait_for(says(caplog, waits), timeout_s=30)
        frames_folder().unlink()
        again = wait_for(says(caplog, "Self-calibration: the disk takes frames again"), timeout_s=30)
        kept = wait_for(says(caplog, "Self-calibration: 16 frames kept, the build waits: "), timeout_s=30)

    assert refused == f"{waits}file exists"
    assert lines(caplog) == [refused, BEGINS, again, kept]


def test_two_builds_never_run_at_once_on_a_device(
    root: Path, poor: Path, seen: list[NDArray[np.uint8]], cool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = publish_provisional(root, poor)

    with exclusive(frames_folder() / "lock", timeout_s=0), calibrating(root, model, seen, cool):
        line = wait_for(says(caplog, "Self-calibration: the build waits: "), timeout_s=30)

    lock = frames_folder() / "lock"
    assert line == f"Self-calibration: the build waits: {lock}: held by process {os.getpid()}"
    assert lines(caplog) == [BEGINS, BUILDS, line]


def test_a_build_that_is_killed_is_said_and_leaves_the_old_one(
    root: Path, poor: Path, seen: list[NDArray[np.uint8]], cool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = publish_provisional(root, poor)

    with calibrating(root, model, seen, cool):
        (build,) = wait_for(lambda: below("mecha.runtime.rebuild_child"), timeout_s=30)
        build.kill()
        line = wait_for(says(caplog, "Self-calibration: INT8 of arena-n is kept: "), timeout_s=30)

    assert line == "Self-calibration: INT8 of arena-n is kept: the build ended with signal SIGKILL"
    assert ModelStore(root / "models").require(NAME).manifest == model.manifest
    assert ModelStore(root / "models").verify(NAME) == ()


def test_frames_are_nobody_elses_business_and_go_when_it_is_switched_off(
    root: Path, poor: Path, seen: list[NDArray[np.uint8]], cool: Path
) -> None:
    model = publish_provisional(root, poor)
    set_governor(cool, "powersave")

    with calibrating(root, model, seen, cool) as calibration:
        files = wait_for(lambda: sorted(frames_folder().glob("*/*.jpg")), timeout_s=30)
        assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
        wait_for(lambda: stat.S_IMODE(files[0].stat().st_mode) == 0o600)
        calibration.switch(on=False)
        wait_for(lambda: not any(frames_folder().glob("*/*.jpg")))


def test_what_a_killed_process_kept_is_removed_by_the_next_even_when_it_keeps_nothing(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mecha.runtime.kept_frames import KeptFrames;"
        "from mecha.project import SelfCalibrationSettings;"
        "KeptFrames(Path(sys.argv[1]), SelfCalibrationSettings()); print('kept', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, frames_folder()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"kept\n"
        calibration = SelfCalibration(root, "object-detector", logging.getLogger("object-detector"))
        calibration.switch(on=False)
        assert len(list(frames_folder().iterdir())) == 1  # its owner lives
        process.kill()
    calibration.switch(on=False)
    assert list(frames_folder().iterdir()) == []


@pytest.mark.parametrize("how", ["config", "settings"])
def test_off_does_nothing(
    root: Path, poor: Path, seen: list[NDArray[np.uint8]], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    model = publish_provisional(root, poor)
    if how == "settings":
        settings(root, enabled=False)
    threads = threading.active_count()
    calibration = SelfCalibration(root, "object-detector", logging.getLogger("object-detector"), periods=QUICK)
    calibration.switch(on=how == "settings")
    for frame in seen:
        calibration.offer(frame, result(model), NAME)
    assert threading.active_count() == threads
    calibration.close()
    assert not frames_folder().exists()
    assert lines(caplog) == []


@pytest.mark.parametrize(
    "why", ["nothing is published", "built on photos", "dynamic_int8", "another file of that name"]
)
def test_only_a_provisional_int8_is_watched(root: Path, poor: Path, seen: list[NDArray[np.uint8]], why: str) -> None:
    photos = SCENES.model_copy(update={"provisional": False})
    model = publish_provisional(root, poor, calibration=photos if why == "built on photos" else SCENES)
    shown = result(model)
    store = ModelStore(root / "models")
    if why == "nothing is published":
        store.remove(NAME)
    elif why == "dynamic_int8":
        publish_provisional(root, poor, method="dynamic_int8")
    elif why == "another file of that name":
        shown = replace(shown, digest="f" * 64)
    calibration = SelfCalibration(root, "object-detector", logging.getLogger("object-detector"), periods=QUICK)
    calibration.switch(on=True)
    calibration.offer(seen[0], shown, NAME)
    assert calibration._worker is not None
    assert calibration._worker._provisional() is None
    calibration.close()
    assert list(frames_folder().glob("*/*.jpg")) == []


# What is kept


def kept(tmp_path: Path, **values: float) -> KeptFrames:
    return KeptFrames(tmp_path, SelfCalibrationSettings.model_validate({"frames": 16, **values}))


def test_frames_that_show_nothing_are_never_enough(tmp_path: Path, seen: list[NDArray[np.uint8]]) -> None:
    frames = kept(tmp_path)
    for second, frame in enumerate(seen):
        frames.take(frame, 0, second)
    assert (frames.count, frames.shown_enough, frames.enough) == (16, True, False)


def test_enough_is_the_number_wanted_with_objects_on_them(tmp_path: Path, seen: list[NDArray[np.uint8]]) -> None:
    frames = kept(tmp_path)
    each = -(-ENOUGH_OBJECTS // 16)
    for second, frame in enumerate(seen[:16]):
        assert not frames.enough
        frames.take(frame, each, second)
    assert frames.enough


def test_patience_ends_with_fewer_but_not_with_a_few(tmp_path: Path, seen: list[NDArray[np.uint8]]) -> None:
    frames = kept(tmp_path, frames=64, patience_s=600)
    for second, frame in enumerate(seen[:15]):
        frames.take(frame, 9, second)
    frames.take(seen[0], 9, 700)  # seen before
    assert (frames.count, frames.enough) == (15, False)
    frames.take(seen[15], 9, 701)
    assert (frames.count, frames.enough) == (16, True)


def test_faulty_settings_are_said_with_their_line(root: Path) -> None:
    settings(root, frames=4)
    with pytest.raises(ConfigError) as caught:
        SelfCalibration(root, "object-detector", logging.getLogger("object-detector"))
    assert str(caught.value) == (
        "configs/common/mecha.toml:2: self_calibration.frames: got 4; expected a number of frames, 16 to 1024"
    )
