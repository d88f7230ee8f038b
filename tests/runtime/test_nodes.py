"""The camera and the object detector together, as they ship: as processes, and what lies beside them."""

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mecha.arena
from mecha.project import bundled_dir, find_project
from mecha.quantize.dynamic import build_dynamic
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.config import NodeConfig, load_config, read_layers
from mecha.runtime.dev import DevOptions, DevSummary, run_dev
from mecha.runtime.loader import ModelLoader
from mecha.runtime.messages import DetectionsMessage
from mecha.runtime.program import load_node
from mecha.runtime.slot import DetectorSlot
from mecha.runtime.variants import Wanted
from tests.runtime.projects import configure
from tests.runtime.shipped_nodes import DETECTIONS, shipped_project
from tests.runtime.waiting import wait_for


@pytest.fixture
def root(tmp_path: Path, int8_bytes: bytes) -> Path:
    return shipped_project(tmp_path / "project", int8_bytes)


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
