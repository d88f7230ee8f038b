"""`mecha daemon run` from outside: a real process, a real mirror that comes and goes, a real model, real signals."""

import json
import sys
from pathlib import Path

import cv2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mecha.arena.camera import ArenaCamera
from mecha.hub.mirror import running_mirror
from tests.daemon.daemon_process import DaemonProcess
from tests.daemon.kept import CATALOG, USER, hub_folder, kept_project
from tests.daemon.test_reconcile import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="asks over a Unix socket")


def picture() -> bytes:
    _, encoded = cv2.imencode(".jpg", ArenaCamera(0, 640, 480).scene(0).frame_bgr)
    return bytes(encoded.tobytes())


def labels_of(daemon: DaemonProcess, image: bytes) -> set[str]:
    answer = daemon.ask("POST", "/api/detect", image, content_type="image/jpeg")
    assert answer.status == 200, answer.body
    return {str(found["label"]) for found in answer.json["detections"]}


def metric(daemon: DaemonProcess, name: str) -> float:
    text = daemon.ask("GET", "/metrics").body.decode()
    (sample,) = [one for family in text_string_to_metric_families(text) for one in family.samples if one.name == name]
    return float(sample.value)


def test_a_project_comes_to_be_ready_by_itself_and_goes_on_whatever_its_mirror_and_its_files_do(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", user=USER)
    served, port, image = hub_folder(tmp_path / "hub"), free_port(), picture()
    with DaemonProcess(root, tmp_path / "home", {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}) as daemon:
        # No mirror yet: it serves, and says so.
        daemon.wait_until(lambda: bool(daemon.status().get("mirror_fault")), "the fault of the mirror is told")
        assert f"http://127.0.0.1:{port}" in daemon.status()["mirror_fault"]
        assert (daemon.ask("GET", "/healthz").status, daemon.ask("GET", "/readyz").status) == (200, 503)
        with running_mirror(served, port=port):
            daemon.wait_until_ready()
            daemon.wait_until(lambda: daemon.model()["state"] == "ready", "the model is ready")
        assert daemon.status()["mirror_fault"] == ""
        assert daemon.ask("GET", "/readyz").status == 200
        # What a pull needs to look into a model is not there any more; where the system tells, what is there is seen.
        assert daemon.loaded("pydantic_core") or sys.platform != "linux"
        assert daemon.loaded("onnxruntime") + daemon.loaded("onnx/") + daemon.loaded("numpy") == []
        found = labels_of(daemon, image)
        assert found

        # Without the mirror it serves what it has.
        assert daemon.stop() == 0
        assert daemon.left() == []
        daemon.start()
        daemon.wait_until_ready()
        daemon.wait_until(lambda: daemon.model()["state"] == "ready", "the model is ready")
        pid = daemon.node("user")["pid"]

        # A catalog that cannot be read changes nothing, and is told wherever somebody looks.
        (root / "model_catalog.toml").write_text(CATALOG.replace("repo =", "rpeo ="))
        daemon.wait_until(lambda: bool(daemon.status()["catalog_fault"]), "the fault of the catalog is told")
        told = daemon.command("daemon", "status")
        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith("ready, process ")
        assert '  file: model_catalog.toml:5: models[0].rpeo: unknown key; did you mean "repo"?' in told.stdout
        assert metric(daemon, "mecha_catalog_fault") == 1
        assert daemon.status()["ready"]
        assert (daemon.model()["state"], daemon.node("user")["pid"]) == ("ready", pid)
        assert labels_of(daemon, image) == found

        (root / "model_catalog.toml").write_text(CATALOG)
        daemon.wait_until(lambda: not daemon.status()["catalog_fault"], "the fault is gone")
        assert metric(daemon, "mecha_catalog_fault") == 0
        assert daemon.stop() == 0
        assert daemon.left() == []
    gone = daemon.command("daemon", "status", "--json")
    assert (gone.returncode, json.loads(gone.stdout)["running"]) == (4, False)
