"""INT8 built again while `mecha dev` runs: swapped in between two frames, and nothing left behind by kill -9."""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from mecha.project import bundled_dir, cache_dir, find_project
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.dev import DevOptions, DevSummary, run_dev
from mecha.runtime.messages import DetectionsMessage
from mecha.runtime.power import power_state
from mecha.service.background import NICENESS
from mecha.store.models import ModelStore
from tests.processes import below
from tests.runtime.projects import configure
from tests.runtime.provisional import CATALOG, FP32, NAME, poor_int8, publish_provisional
from tests.runtime.waiting import wait_for

DETECTIONS = "/vision/object/detections"
SETTINGS = "[self_calibration]\nframes = 16\nperiod_s = 0.1\n"
BUILDS = "[INFO] object-detector: Self-calibration: 16 frames kept, building INT8 in the background"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the nodes that ship, whose detector runs the INT8 of arena-n."""
    objection = power_state().objection
    if objection is not None:
        pytest.skip(f"this machine builds nothing in the background: {objection}")
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    (root / "model_catalog.toml").write_text(CATALOG)
    for part in ("nodes", "configs"):
        shutil.copytree(bundled_dir() / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    configure(root, "object-detector", model=NAME, use_int8=True, threads=1)
    (root / "configs/common/mecha.toml").write_text(SETTINGS)
    return root


class Run:
    """`mecha dev` in this thread, and beside it something that ends it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.results: list[DetectionsMessage] = []

    def until(self, done: Callable[["Run"], None]) -> DevSummary:
        failures: list[BaseException] = []

        def beside() -> None:
            try:
                done(self)
            except AssertionError as error:
                failures.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=beside)
        thread.start()
        options = DevOptions(source="arena://?size=320x240&fps=15")
        summary = run_dev(find_project(self.root, os.environ), (), options, self.lines.append, self.events.append)
        thread.join()
        if failures:
            raise failures[0]
        return summary

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def swapped(self) -> bool:
        return any(event["event"] == "swap" for event in self.events)


def frames_kept() -> list[Path]:
    return [path for path in (cache_dir(os.environ) / "self-calibration").iterdir() if path.is_dir()]


def test_the_new_int8_runs_between_two_frames_and_none_is_lost(root: Path, tmp_path: Path) -> None:
    before = publish_provisional(root, poor_int8(tmp_path / "poor.onnx"))

    def watch(run: Run) -> None:
        wait_for(lambda: run.said("Inference: "), timeout_s=60)
        place = BusPlace(root, os.environ)
        member = place.join(place.live_endpoint() or "")
        member.subscribe(DETECTIONS, lambda sample: run.results.append(DetectionsMessage.decode(sample)))
        try:
            wait_for(run.swapped, timeout_s=240, what=f"a swap after {run.lines}")
            known = len(run.results)
            wait_for(lambda: len(run.results) > known + 5)
        finally:
            member.close()

    run = Run(root)
    summary = run.until(watch)

    assert summary.failure == ""
    camera, detector = summary.nodes["camera"], summary.nodes["object-detector"]
    inferred = [event["frame"] for event in run.events if event["event"] == "inference"]
    assert detector.frames + detector.dropped == camera.frames
    numbers = [result.frame for result in run.results]
    assert numbers == sorted(set(numbers))
    assert numbers == [frame for frame in inferred if frame in set(numbers)]
    published = ModelStore(root / "models").require(NAME)
    digests = [model.manifest.files["model-int8.onnx"].sha256 for model in (before, published)]
    ran = [result.model_digest for result in run.results]
    assert [first for first, second in pairwise([*ran, ""]) if first != second] == digests
    assert [(event["from"], event["to"]) for event in run.events if event["event"] == "swap"] == [("INT8", "INT8")]
    assert published.manifest.int8.calibration is not None
    assert not published.manifest.int8.calibration.provisional
    told = [line for line in run.lines if "Self-calibration" in line]
    assert told == [
        "[INFO] object-detector: Self-calibration: INT8 of arena-n was built on scenes; keeping 16 frames of what is "
        "seen here (self_calibrate)",
        BUILDS,
        f"[INFO] object-detector: Self-calibration: INT8 of arena-n is replaced: {published.manifest.int8.message}",
    ]
    assert sum("Loading model models/arena-n/model-int8.onnx (INT8)" in line for line in run.lines) == 2
    assert frames_kept() == []


def test_a_node_that_is_killed_while_it_builds_leaves_no_process_and_the_old_build(root: Path) -> None:
    before = publish_provisional(root, FP32)
    others, gone = below(), list[psutil.Process]()

    def building(module: str) -> list[psutil.Process]:
        return below(f"mecha.{module}", besides=others)

    def kill(run: Run) -> None:
        wait_for(lambda: building("service.build_child"), timeout_s=120, what=f"a build after {run.lines}")
        (node,) = below("mecha.runtime.run", "object-detector", besides=others)
        gone.extend([*building("service.build_child"), *building("runtime.rebuild_child")])
        assert all(process.nice() >= NICENESS for process in gone)
        node.kill()
        wait_for(lambda: not any(process.is_running() for process in gone), timeout_s=10)
        # The node that is started in its place begins again.
        wait_for(lambda: sum(BUILDS in line for line in run.lines) == 2, timeout_s=120)

    run = Run(root)
    summary = run.until(kill)

    assert summary.nodes["object-detector"].restarts == 1
    assert len(gone) == 2
    assert building("runtime.rebuild_child") == building("service.build_child") == []
    store = ModelStore(root / "models")
    assert store.require(NAME).manifest == before.manifest
    assert store.verify(NAME) == ()
    assert frames_kept() == []
