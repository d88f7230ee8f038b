"""The camera and the object detector, as they ship, in a project of their own."""

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mecha.arena
from mecha.project import bundled_dir, find_project
from mecha.quantize.dynamic import build_dynamic
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.config import NodeConfig, load_config, read_layers
from mecha.runtime.dev import DevOptions, DevSummary, run_dev
from mecha.runtime.events import Events
from mecha.runtime.hysteresis import Patience
from mecha.runtime.live import LiveConfig
from mecha.runtime.loader import ModelLoader
from mecha.runtime.loop import NodeLoop
from mecha.runtime.messages import ControlMessage, DetectionsMessage, FrameMessage
from mecha.runtime.node import NodeContext
from mecha.runtime.program import load_node
from mecha.runtime.slot import DetectorSlot
from mecha.runtime.variants import Wanted
from mecha.store.models import ModelStore
from tests.detect.blob_detector import GREEN, RED, blob_detector, blob_spec, scene
from tests.detect.published_blobs import int8_blobs, publish_blobs
from tests.runtime.projects import configure
from tests.runtime.waiting import wait_for

CONTROL, FRAMES, DETECTIONS = "/vision/object/control", "/camera/rgb", "/vision/object/detections"


@pytest.fixture(scope="module")
def int8_bytes() -> bytes:
    return int8_blobs()


@pytest.fixture
def root(tmp_path: Path, int8_bytes: bytes) -> Path:
    """A project with the nodes that ship, and the blob detector in both precisions."""
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    (root / "model_catalog.toml").touch()
    for part in ("nodes", "configs"):
        shutil.copytree(bundled_dir() / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    publish_blobs(ModelStore(root / "models"), int8=int8_bytes)
    configure(root, "object-detector", model="blobs", use_int8=False)
    return root


class Bench:
    """One node in a thread, between both ends of a bus in this process."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.bus = LocalBus()
        self.detections: list[DetectionsMessage] = []
        self.frames: list[FrameMessage] = []
        self.bus.subscribe(DETECTIONS, lambda sample: self.detections.append(DetectionsMessage.decode(sample)))
        self.bus.subscribe(FRAMES, lambda sample: self.frames.append(FrameMessage.decode(sample)))
        self.stopping = threading.Event()
        node_class = load_node(root / "nodes", name)
        log = logging.getLogger(name)
        live = LiveConfig(
            node_class.config_model,
            find_project(root, {}).node_config_files(name),
            root,
            {},
            log=log,
            on_change=self.wake,
        )
        go = threading.Event()
        go.set()
        self.loop = NodeLoop(node_class, NodeContext(name, root, self.bus, Events(name), log, self.stopping), live, go)
        self.thread = threading.Thread(target=self.loop.run)

    def wake(self) -> None:
        self.loop.wake()

    def send(self, seq: int, frame: Any = None) -> None:
        pixels = scene((8, 8, 8, RED)) if frame is None else frame
        payload, attachment = FrameMessage(pixels, seq, 1000 + seq, "test").encode()
        self.bus.publish(FRAMES, payload, attachment)

    def result_of(self, seq: int, frame: Any = None) -> DetectionsMessage:
        """Send a frame and return what was found in it."""
        self.send(seq, frame)
        return wait_for(lambda: next((one for one in self.detections[::-1] if one.frame == seq), None))  # type: ignore[return-value]

    def command(self, **values: Any) -> None:
        self.bus.publish(CONTROL, ControlMessage(**values).encode()[0])

    def set(self, **values: Any) -> None:
        configure(self.root, self.name, **values)


@pytest.fixture
def running(root: Path, caplog: pytest.LogCaptureFixture) -> Callable[[str], Any]:
    caplog.set_level(logging.INFO)

    @contextmanager
    def run(name: str) -> Iterator[Bench]:
        bench = Bench(root, name)
        bench.thread.start()
        try:
            yield bench
        finally:
            bench.stopping.set()
            bench.loop.wake()
            bench.thread.join(10)

    return run


Running = Callable[[str], Any]


def listening(bench: Bench) -> None:
    """Send frames until the first result: the detector loads its model first."""

    def heard() -> bool:
        bench.send(0)
        return bool(bench.detections)

    wait_for(heard, timeout_s=30)
    # Frames are worked off in order: after this one none of the above is left.
    bench.result_of(1)
    bench.detections.clear()


def test_a_detector_says_what_it_saw_where_and_with_what(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        result = bench.result_of(7, scene((8, 8, 8, RED), (40, 40, 8, GREEN)))

    assert (result.frame, result.captured_at, result.source) == (7, 1007, "test")
    assert (result.width, result.height) == (64, 64)
    assert (result.model, result.precision) == ("blobs", "FP32")
    assert len(result.model_digest) == 64
    assert sorted(one["label"] for one in result.detections) == ["green", "red"]
    assert set(result.ms) == {"pre", "session", "post"}


def test_of_a_hundred_toggles_no_frame_is_lost_and_no_result_is_mixed(running: Running) -> None:
    """Every frame gets one result, in order, and each says the file that made it."""
    with running("object-detector") as bench:
        listening(bench)
        seq = 2
        seen: list[DetectionsMessage] = []
        for toggle in range(100):
            use_int8 = toggle % 2 == 0
            bench.command(use_int8=use_int8)
            expected = "INT8" if use_int8 else "FP32"
            while not seen or seen[-1].precision != expected:
                seen.append(bench.result_of(seq))
                seq += 1

    assert [one.frame for one in bench.detections] == list(range(2, seq))
    assert {len(one.detections) for one in seen} == {1}
    tags = {(one.precision, one.model_digest) for one in seen}
    assert sorted(precision for precision, _ in tags) == ["FP32", "INT8"]
    switches = sum(before.precision != after.precision for before, after in pairwise(seen))
    assert switches == 99 + (seen[0].precision == "FP32")


def test_thresholds_follow_the_config(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.set(model="blobs", use_int8=False, score_threshold=1.0)

        seqs = iter(range(2, 100_000))
        wait_for(lambda: bench.result_of(next(seqs)).detections == [])


def test_a_command_holds_until_the_config_says_otherwise(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        seqs = iter(range(2, 100_000))

        def runs(precision: str) -> Callable[[], bool]:
            return lambda: bench.result_of(next(seqs)).precision == precision

        bench.command(use_int8=True)
        wait_for(runs("INT8"))
        # Another key changes nothing about it.
        bench.set(model="blobs", use_int8=False, score_threshold=0.5)
        wait_for(lambda: bench.loop._node.config.score_threshold == 0.5)
        assert runs("INT8")()
        bench.set(model="blobs", use_int8="auto")
        wait_for(lambda: bench.loop._node.said.use_int8 is None)
        bench.set(model="blobs", use_int8=False)
        wait_for(runs("FP32"))


def test_a_detector_can_be_switched_off_and_on(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.command(enabled=False)
        wait_for(lambda: bench.loop._node.said.enabled is False)
        bench.send(2)
        wait_for(lambda: not bench.loop._inbox._newest)
        bench.command(enabled=True)
        wait_for(lambda: bench.loop._node.said.enabled)
        bench.result_of(3)

    assert [one.frame for one in bench.detections] == [3]


def test_self_calibration_can_be_switched_off_and_on(running: Running) -> None:
    with running("object-detector") as bench:
        listening(bench)
        calibration = bench.loop._node.calibration
        assert calibration._worker is not None
        bench.command(self_calibrate=False)
        wait_for(lambda: calibration._worker is None)
        # What the config says about other keys changes nothing about it.
        bench.set(model="blobs", use_int8=False, score_threshold=0.5)
        wait_for(lambda: bench.loop._node.config.score_threshold == 0.5)
        assert calibration._worker is None
        bench.command(self_calibrate=True)
        wait_for(lambda: calibration._worker is not None)


def test_a_hot_detector_leaves_out_frames_once_it_is_told_to_and_takes_all_of_them_again(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("90000")
    with running("object-detector") as bench:
        listening(bench)
        node = bench.loop._node
        node.degrading._sys_root, node.degrading._patience = tmp_path / "sys", Patience(trouble_s=0, settle_s=0)
        seqs = iter(range(2, 100_000))

        def frame() -> int:
            seq = next(seqs)
            bench.send(seq)
            wait_for(lambda: not bench.loop._inbox._newest, timeout_s=60)
            return seq

        def skips() -> bool:
            frame()
            return bool(node.degrading.relief.skip)

        frame()
        assert node.vitals.degraded == ""
        bench.command(degrade=True)
        wait_for(skips, timeout_s=60)
        left_out = [frame() for _ in range(10)]
        bench.command(degrade=False)
        wait_for(lambda: not node.said.degrade, timeout_s=60)
        last = frame()
        bench.result_of(last + 100)

    seen = [one.frame for one in bench.detections]
    assert [seq in seen for seq in left_out] in ([True, False] * 5, [False, True] * 5)
    assert last in seen
    assert [record.getMessage() for record in caplog.records if "Degrading" in record.getMessage()] == [
        "Degrading: as configured -> skip 1 (thermal_zone0 is at 90 °C)",
        "Degrading: skip 1 -> as configured (switched off)",
    ]
    assert node.vitals.degraded == ""


def test_a_model_of_many_sizes_runs_at_a_smaller_one_while_the_device_is_hot(
    running: Running, root: Path, tmp_path: Path
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("90000")
    publish_blobs(ModelStore(root / "models"), spec=blob_spec(dynamic=True), model=blob_detector(dynamic=True))
    configure(root, "object-detector", model="blobs", use_int8=False, ladder=["fastest", "input 32"])
    with running("object-detector") as bench:
        listening(bench)
        node = bench.loop._node
        node.degrading._sys_root, node.degrading._patience = tmp_path / "sys", Patience(trouble_s=0, settle_s=0)
        bench.command(degrade=True)
        seqs = iter(range(2, 100_000))

        def size() -> int | None:
            bench.result_of(next(seqs), scene())
            chosen: int | None = node.slot._started().variant.input_size
            return chosen

        wait_for(lambda: size() == 32, timeout_s=60)
        assert node.vitals.degraded == "input 32"
        bench.command(degrade=False)
        wait_for(lambda: size() is None, timeout_s=60)

    assert [one.frame for one in bench.detections] == list(range(2, next(seqs)))


def test_int8_that_gives_nan_leaves_the_detector_as_it_is(
    running: Running, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_blobs(ModelStore(root / "models"), int8=blob_detector(class_bias=float("nan")))
    with running("object-detector") as bench:
        listening(bench)
        bench.command(use_int8=True)
        seqs = iter(range(2, 100_000))

        def warned() -> list[str]:
            bench.result_of(next(seqs))
            return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

        warnings = wait_for(warned, timeout_s=60)
        for _ in range(5):
            bench.result_of(next(seqs))

    assert warnings == [
        "INT8 of blobs cannot be used: models/blobs/model-int8.onnx: it gives NaN; running FP32. "
        "`mecha models quantize blobs` makes INT8."
    ]
    assert [one.frame for one in bench.detections] == list(range(2, next(seqs)))
    assert {(one.precision, len(one.detections)) for one in bench.detections} == {("FP32", 1)}


def test_a_faulty_config_leaves_the_detector_as_it_is(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.set(model="blobs", use_int9=True)
        wait_for(lambda: any(record.levelname == "ERROR" for record in caplog.records))
        result = bench.result_of(2)

    assert result.precision == "FP32"
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [
        'configs/common/nodes/object-detector/config.json:3: use_int9: unknown key; did you mean "use_int8"?',
        "The node keeps the config it runs with; correct the file and save it.",
    ]


def test_a_model_that_is_not_there_leaves_the_detector_as_it_is(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with running("object-detector") as bench:
        listening(bench)
        bench.set(model_path="models/yolov8n/model.onnx")
        wait_for(lambda: any(record.levelname == "ERROR" for record in caplog.records))
        result = bench.result_of(2)

    assert result.model == "blobs"
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith('model "yolov8n" is not pulled')
    assert "; what runs stays\n" in error
    assert "mecha models pull yolov8n" in error


def test_a_camera_plays_its_pictures_and_numbers_its_frames(running: Running, root: Path) -> None:
    pictures = root / "pictures"
    pictures.mkdir()
    for index in range(4):
        cv2.imwrite(str(pictures / f"{index}.png"), np.full((24, 32, 3), index, np.uint8))
    configure(root, "camera", source="pictures", real_time=False)
    here = Path.cwd()
    os.chdir(root)
    try:
        with running("camera") as bench:
            bench.thread.join(10)
    finally:
        os.chdir(here)

    assert [(one.seq, int(one.frame_bgr[0, 0, 0])) for one in bench.frames] == [(n, n) for n in range(4)]
    assert [Path(one.source).name for one in bench.frames] == ["0.png", "1.png", "2.png", "3.png"]


def test_frames_that_are_left_out_have_no_number(running: Running, root: Path) -> None:
    configure(root, "camera", source="arena://?size=32x24&frames=10", real_time=False, frame_skip=2)
    with running("camera") as bench:
        bench.thread.join(10)

    assert [one.seq for one in bench.frames] == [0, 1, 2, 3]


def test_a_camera_follows_its_config_and_goes_on_where_that_cannot_be_opened(
    running: Running, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configure(root, "camera", source="arena://?size=32x24&fps=100")
    with running("camera") as bench:
        wait_for(lambda: bench.frames)
        bench.set(source="nothing.mp4")
        wait_for(lambda: any(record.levelname == "WARNING" for record in caplog.records))
        known = len(bench.frames)
        wait_for(lambda: len(bench.frames) > known)
        bench.set(source="arena://?size=48x32&fps=100")
        wait_for(lambda: bench.frames[-1].frame_bgr.shape == (32, 48, 3))

    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("source nothing.mp4: tried it as a file")
    assert warning.endswith("; arena://?size=32x24&fps=100 goes on")
    numbers = [one.seq for one in bench.frames]
    assert numbers == list(range(len(numbers)))


# As processes


class Watched:
    """A run of both nodes, and what happens when it says something."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.precision = ""

    def run(self, then: Callable[["Watched"], None] | None = None, **options: Any) -> DevSummary:
        """Run; `then` runs beside it, and its end ends the run."""
        project = find_project(self.root, os.environ)
        if then is None:
            return run_dev(project, (), DevOptions(**options), self.lines.append, self._take)
        failures: list[BaseException] = []

        def beside() -> None:
            try:
                then(self)
            except AssertionError as error:
                failures.append(error)
            finally:
                os.kill(os.getpid(), 15)

        thread = threading.Thread(target=beside)
        thread.start()
        summary = run_dev(project, (), DevOptions(**options), self.lines.append, self._take)
        thread.join()
        if failures:
            raise failures[0]
        return summary

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event["event"] == "inference":
            self.precision = event["precision"]


def test_a_fresh_project_detects_without_camera_and_network(root: Path) -> None:
    watched = Watched(root)

    summary = watched.run(source="arena://?size=160x120&frames=15")

    assert (summary.exit_code, summary.failure) == (0, "")
    stats = summary.nodes["object-detector"]
    assert stats.frames + stats.dropped == summary.nodes["camera"].frames == 15
    assert "[INFO] object-detector: Loading model models/blobs/model.onnx (FP32)" in watched.lines
    assert any("[INFO] object-detector: Inference: " in line and line.endswith(" ms (FP32)") for line in watched.lines)


def test_toggles_of_the_file_reach_a_running_detector_and_every_frame_is_accounted_for(root: Path) -> None:
    file = root / "configs/common/nodes/object-detector/config.json"
    results: list[DetectionsMessage] = []

    def toggle(watched: Watched) -> None:
        wait_for(lambda: watched.precision == "FP32", timeout_s=30)
        place = BusPlace(root, os.environ)
        member = place.join(place.live_endpoint() or "")
        member.subscribe(DETECTIONS, lambda sample: results.append(DetectionsMessage.decode(sample)))
        try:
            for index in range(12):
                wanted = ("INT8", "FP32")[index % 2]
                text = json.dumps({"model": "blobs", "use_int8": wanted == "INT8"})
                if index % 3:
                    (file.parent / "new").write_text(text)
                    (file.parent / "new").replace(file)
                else:
                    file.write_text(text)
                wait_for(lambda wanted=wanted: watched.precision == wanted)  # type: ignore[misc]
        finally:
            member.close()

    watched = Watched(root)
    summary = watched.run(toggle, source="arena://?size=64x48&fps=30")

    assert summary.failure == ""
    camera, detector = summary.nodes["camera"], summary.nodes["object-detector"]
    inferred = [event["frame"] for event in watched.events if event["event"] == "inference"]
    assert detector.frames + detector.dropped == camera.frames
    assert inferred == sorted(set(inferred))
    assert len(inferred) == detector.frames
    stages = [event["stages"] for event in watched.events if event["event"] == "inference"]
    assert all(set(one) == {"pre", "session", "post"} and min(one.values()) >= 0 for one in stages)
    swaps = [(event["from"], event["to"]) for event in watched.events if event["event"] == "swap"]
    assert swaps == [("FP32", "INT8"), ("INT8", "FP32")] * 6
    assert sum("Loading model" in line for line in watched.lines) == 2
    assert sum(" ms -> INT8 " in line for line in watched.lines) == 6
    tags = {(one.precision, one.model_digest) for one in results}
    assert len(tags) == 2
    assert [one.frame for one in results] == sorted({one.frame for one in results})


def test_a_detector_without_its_model_says_how_to_pull_it_and_is_not_tried_again(root: Path) -> None:
    configure(root, "object-detector", model="yolov8n")
    watched = Watched(root)

    summary = watched.run()

    assert summary.exit_code == 4
    assert summary.failure.startswith('object-detector: model "yolov8n" is not pulled')
    assert any("mecha models pull yolov8n" in line for line in watched.lines)
    assert summary.nodes["object-detector"].restarts == 0


# What ships


@pytest.mark.parametrize("node", ["camera", "object-detector"])
def test_the_config_that_ships_says_the_defaults(node: str) -> None:
    """Whoever opens the file sees every key, and what it would be without."""
    shipped = bundled_dir()
    model = load_node(shipped / "nodes", node).config_model
    file = shipped / "configs/common/nodes" / node / "config.json"

    config: NodeConfig = load_config(model, read_layers((file,), shipped, {}))

    assert config == model()
    written = json.loads(file.read_text())
    assert set(written) | {"model_path"} == set(model.model_fields) | {"model_path"}


def test_the_embedded_model_switches_again_and_again_without_growing(tmp_path: Path) -> None:
    """arena-n, in real sessions, as an INT8 file beside an FP32 file."""
    packaged = Path(mecha.arena.__file__).parent / "arena-n.onnx"
    (tmp_path / "m").mkdir()
    shutil.copy(packaged, tmp_path / "m/arena-n.onnx")
    build_dynamic(tmp_path / "m/arena-n.onnx", tmp_path / "m/arena-n-int8.onnx")
    loader = ModelLoader(tmp_path)
    slot = DetectorSlot(loader, log=logging.getLogger("slot"), on_swap=lambda swap: None)
    frame = np.full((480, 640, 3), 90, np.uint8)
    memory: dict[int, float] = {}
    slot.start(Wanted("m/arena-n.onnx", use_int8=False))
    try:
        for switch in range(1, 41):
            expected = "INT8" if switch % 2 else "FP32"
            slot.want(Wanted("m/arena-n.onnx", use_int8=expected == "INT8"))
            wait_for(lambda expected=expected: slot.run(frame).precision == expected)  # type: ignore[misc]
            memory[switch] = loader.memory_mb()
    finally:
        slot.close()

    assert memory[40] - memory[2] < 20
