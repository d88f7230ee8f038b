"""The daemon in numbers, read by the parser that Prometheus itself brings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from mecha.daemon.daemon import Daemon
from mecha.daemon.detect_api import DetectCounts
from mecha.daemon.detecting import Detecting
from mecha.daemon.metrics import Metrics
from mecha.daemon.waiting_room import Room, WaitingRoom
from mecha.project import find_project
from tests.daemon.served_device import served
from tests.runtime.projects import make_project
from tests.runtime.supervision import settle


class Device:
    """A daemon to which a test tells what happens."""

    def __init__(self, root: Path) -> None:
        self.daemon = Daemon(find_project(make_project(root), os.environ), os.environ)
        self.counts = DetectCounts(WaitingRoom(Room()), Detecting({}))
        self.metrics = Metrics(self.daemon, self.counts, sys_root=root / "sys")

    def tell(self, **event: Any) -> None:
        self.daemon.state.take_event(event)
        self.daemon.events.publish(event)

    def stats(self, frames: int, dropped: int, **more: Any) -> None:
        figures = {"fps_in": 15.0, "fps_out": None, "rss_mb": 100.0, "stale": False}
        self.tell(event="stats", node="detector", frames=frames, dropped=dropped, **figures | more)

    def starts(self) -> None:
        self.tell(event="state", node="detector", state="starting", pid=1, restarts=1, reason="")

    def value(self, name: str, **labels: str) -> float | None:
        return self.values().get((name, tuple(sorted(labels.items()))))

    def values(self) -> Mapping[tuple[str, tuple[tuple[str, str], ...]], float]:
        text, content_type = self.metrics.text()
        assert content_type.startswith("text/plain; version=")
        families = text_string_to_metric_families(text.decode())
        return {
            (one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples
        }


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_inferences_are_counted_by_node_model_and_precision(device: Device) -> None:
    device.daemon.state.set_model("arena-n", wanted_by=("detector",))
    for ms, precision in ((8.0, "FP32"), (12.0, "INT8"), (700.0, "INT8")):
        device.tell(event="inference", node="detector", ms=ms, precision=precision, frame=1)
    labels = {"node": "detector", "model": "arena-n", "precision": "INT8"}
    assert device.value("mecha_inference_seconds_count", **labels) == 2
    assert device.value("mecha_inference_seconds_sum", **labels) == pytest.approx(0.712)
    assert device.value("mecha_inference_seconds_bucket", le="0.015", **labels) == 1
    device.daemon.state.set_model("arena-n", wanted_by=())
    device.daemon.state.set_model("yolo", wanted_by=("detector",))
    device.tell(event="inference", node="detector", ms=8.0, precision="FP32", frame=1)
    assert device.value("mecha_inference_seconds_count", node="detector", model="yolo", precision="FP32") == 1


def test_frames_of_all_processes_of_a_node_are_one_count(device: Device) -> None:
    device.starts()
    device.stats(10, 1)
    device.stats(25, 2)
    device.starts()
    device.stats(30, 4)
    device.stats(31, 4)
    device.stats(5, 0)
    assert device.value("mecha_node_frames_total", node="detector") == 25 + 31 + 5
    assert device.value("mecha_node_dropped_frames_total", node="detector") == 2 + 4
    assert device.value("mecha_node_restarts_total", node="detector") == 1
    assert device.value("mecha_node_state", node="detector", state="starting") == 1
    assert device.value("mecha_node_state", node="detector", state="running") == 0
    assert device.value("mecha_node_memory_bytes", node="detector") == 1e8
    assert device.value("mecha_node_frames_per_second", node="detector", direction="in") == 15
    assert device.value("mecha_node_frames_per_second", node="detector", direction="out") is None
    device.tell(**{"event": "swap", "node": "detector", "from": "FP32", "to": "INT8", "before_ms": 1, "after_ms": 1})
    assert device.value("mecha_node_swaps_total", node="detector") == 1


def test_bytes_that_were_there_are_not_brought_again(device: Device) -> None:
    state = device.daemon.state
    for completed in (1000, 1500, 2000):
        state.set_model("m", state="pulling", stage="download", completed=completed, total=2000)
    state.set_model("m", state="ready", stage="", completed=0, total=None)
    for completed in (0, 300):
        state.set_model("m", state="pulling", stage="download", completed=completed, total=300)
    assert device.value("mecha_pull_bytes_total", model="m") == 1000 + 300
    assert device.value("mecha_model_state", model="m", state="pulling") == 1


def test_faults_of_files_and_of_the_mirror_are_told(device: Device) -> None:
    assert device.value("mecha_catalog_fault") == device.value("mecha_mirror_fault") == 0
    device.daemon.state.set_fault("catalog", "model_catalog.toml:1: not TOML")
    device.daemon.state.set_mirror_fault("no answer")
    assert device.value("mecha_catalog_fault") == device.value("mecha_mirror_fault") == 1
    assert device.value("mecha_ready") == 0


def test_the_cache_and_its_quota_are_told_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MECHA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache/blobs").mkdir(parents=True)
    (tmp_path / "cache/blobs/a").write_bytes(bytes(1234))
    settle(make_project(tmp_path / "project"), "[cache]\nquota_gb = 2.5\n")
    device = Device(tmp_path / "project")
    assert device.value("mecha_cache_bytes") == 1234
    assert device.value("mecha_cache_quota_bytes") == 2.5e9


def test_what_the_system_tells_of_heat_is_told_and_nothing_else(device: Device, tmp_path: Path) -> None:
    assert device.value("mecha_throttled") is None
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    cooling = tmp_path / "sys/class/thermal/cooling_device0"
    for folder in (zone, cooling):
        folder.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("61500\n")
    (cooling / "type").write_text("cpufreq-cpu0\n")
    (cooling / "cur_state").write_text("2\n")
    assert device.value("mecha_temperature_celsius", part="cpu-thermal") == 61.5
    assert device.value("mecha_throttled") == 1


def test_answers_to_pictures_are_counted(device: Device) -> None:
    for status in (200, 429, 429):
        device.counts.count(status)
    assert device.value("mecha_detect_requests_total", status="429") == 2
    assert device.value("mecha_detect_waiting") == device.value("mecha_detect_models_loaded") == 0


def test_names_of_any_letters_are_written_so_that_they_can_be_read(device: Device) -> None:
    name = 'a"b\\c\nä'
    device.daemon.state.set_model(name, state="ready")
    assert device.value("mecha_model_state", model=name, state="ready") == 1


def test_both_formats_are_served_and_read(tmp_path: Path) -> None:
    with served(make_project(tmp_path)) as device:
        plain = device.ask("GET", "/metrics")
        assert plain.status == 200
        names = {family.name for family in text_string_to_metric_families(plain.body.decode())}
        assert {"mecha_ready", "mecha_info", "mecha_cache_bytes", "mecha_inference_seconds"} <= names
        open_text = device.ask("GET", "/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert open_text.headers["Content-Type"].startswith("application/openmetrics-text")
        read = openmetrics_parser.text_string_to_metric_families(open_text.body.decode())  # type: ignore[no-untyped-call]
        assert list(read)
