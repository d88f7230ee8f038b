"""Doing less on purpose, as real processes: a detector that gets too slow for its camera."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from mecha.project import bundled_dir, find_project
from mecha.runtime.bus import Bus
from mecha.runtime.dev import DevOptions, run_dev
from mecha.runtime.faults import Fault
from mecha.runtime.supervisor import Supervisor
from mecha.store.models import ModelStore
from tests.detect.published_blobs import publish_blobs
from tests.runtime.projects import configure
from tests.runtime.waiting import wait_for

DETECTOR = "object-detector"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the nodes that ship, and the blob detector in FP32."""
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    (root / "model_catalog.toml").touch()
    for part in ("nodes", "configs"):
        shutil.copytree(bundled_dir() / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    publish_blobs(ModelStore(root / "models"))
    configure(root, DETECTOR, model="blobs", use_int8=False, degrade=True)
    return root


def test_a_detector_that_gets_too_slow_leaves_out_frames_and_says_so(root: Path) -> None:
    events: list[dict[str, Any]] = []
    lines: list[str] = []

    def told() -> bool:
        return any(event["event"] == "stats" and event.get("degraded") == "skip 1" for event in events)

    def begin(supervisor: Supervisor, bus: Bus) -> None:
        def beside() -> None:
            try:
                wait_for(told, timeout_s=60)
            finally:
                supervisor.stop()

        threading.Thread(target=beside).start()

    options = DevOptions(source="arena://?size=64x48&fps=30", faults=(Fault.parsed("slow-inference@0s:60s"),))
    summary = run_dev(find_project(root, os.environ), (), options, lines.append, events.append, on_begin=begin)

    assert summary.failure == ""
    change = next(event for event in events if event["event"] == "degrade")
    reason = change.pop("reason")
    assert change == {"event": "degrade", "node": DETECTOR, "from": "", "to": "skip 1"}
    assert reason.endswith(" % of the frames were dropped")
    assert f"[WARNING] {DETECTOR}: Degrading: as configured -> skip 1 ({reason})" in lines
    stats = summary.nodes
    assert stats[DETECTOR].frames + stats[DETECTOR].dropped == stats["camera"].frames
    inferred = [event["frame"] for event in events if event["event"] == "inference"]
    assert len(inferred) == stats[DETECTOR].frames
