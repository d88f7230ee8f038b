"""A project as its files describe it: with a real mirror on loopback, real processes, and files that change."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mecha.daemon.needs import read_needs
from mecha.errors import BusyError
from mecha.hub.mirror import running_mirror
from mecha.project import find_project
from tests.daemon.kept import CATALOG, PATIENCE_S, USER, Kept, environ_with, hub_folder, kept_project
from tests.runtime.projects import TICKER, add_node, configure
from tests.runtime.waiting import wait_for

CAMERA = """
    from mecha.runtime.node import Node
    from mecha.errors import NotFoundError

    class Camera(Node):
        def setup(self) -> None:
            if not (self.root / "plugged-in").exists():
                raise NotFoundError("no such camera")

        def step(self, message: None) -> None:
            self.wait(0.05)
"""

DETECTOR = """
    from mecha.runtime.node import Field, Node, NodeConfig

    class DetectorConfig(NodeConfig):
        model: str = Field("arena-n", min_length=1)
        model_path: str | None = None

    class Detector(Node[DetectorConfig]):
        config_model = DetectorConfig
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mirror_at(port: int, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "mecha", "hub", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_what_a_node_needs_is_brought_and_a_broken_catalog_changes_nothing(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", user=USER)
    with (
        running_mirror(hub_folder(tmp_path / "hub")) as hub,
        Kept(root, environ_with(tmp_path, HF_ENDPOINT=hub.endpoint)) as kept,
        kept.daemon.events.subscribe(0) as events,
    ):
        kept.wait_until_ready()
        assert kept.daemon.ready == (True, "")
        assert (kept.model().state, kept.model().wanted_by) == ("ready", ("user",))
        states = [event.data["state"] for event in events.take() if event.data["event"] == "model"]
        assert states[-1] == "ready"
        assert "pulling" in states
        pid = kept.node("user").pid

        (root / "model_catalog.toml").write_text(CATALOG.replace("repo =", "rpeo ="))
        kept.wait_until(lambda: bool(kept.daemon.state.catalog_fault), "the fault is told")
        fault = kept.daemon.state.catalog_fault
        assert "rpeo" in fault
        remedy = "[ERROR] daemon: What runs goes on with what was read before; correct the file and save it."
        kept.wait_until(lambda: remedy in kept.lines)
        assert f"[ERROR] daemon: {fault.splitlines()[0]}" in kept.lines
        assert kept.daemon.ready == (True, "")
        assert (kept.model().state, kept.node("user").pid) == ("ready", pid)

        (root / "model_catalog.toml").write_text(CATALOG)
        kept.wait_until(lambda: not kept.daemon.state.catalog_fault, "the fault is gone")
        kept.wait_until(lambda: "[INFO] daemon: catalog: can be read again" in kept.lines)
        # Of no catalog any more: what is published stays what it is.
        (root / "model_catalog.toml").write_text(CATALOG.replace('"arena"', '"other"'))
        kept.daemon.reload()
        kept.wait_until(lambda: kept.daemon.reconciler.supply.idle)
        assert (kept.model().state, kept.model().reason, kept.node("user").pid) == ("ready", "", pid)
        with pytest.raises(BusyError, match=r"^arena is run by user: it is not removed$"):
            kept.daemon.remove("arena")


def test_a_mirror_that_is_down_is_told_and_what_it_holds_is_brought_when_it_is_back(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", user=USER, ticker=TICKER)
    port, folder = free_port(), hub_folder(tmp_path / "hub")
    environ = environ_with(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}")
    with Kept(root, environ) as kept:
        kept.wait_until(lambda: bool(kept.daemon.state.mirror_fault), "the fault is told")
        kept.wait_until(lambda: kept.node("ticker").state == "running")
        # Between two tries; during one it is pulling.
        kept.wait_until(lambda: kept.model().state == "absent" and kept.model().retry_at is not None)
        assert kept.model().tries > 0
        assert not kept.model().usable
        assert kept.node("user").state == "waiting"
        assert kept.node("user").reason == "waits for arena"
        ready, why = kept.daemon.ready
        assert not ready
        assert "user is waiting: waits for arena" in why
        with mirror_at(port, folder):
            kept.wait_until_ready()
        assert (kept.daemon.state.mirror_fault, kept.model().state, kept.model().tries) == ("", "ready", 0)

    # What is there needs no mirror.
    with Kept(root, environ) as again:
        again.wait_until_ready()
        again.wait_until(lambda: again.model().state == "ready")
        assert again.daemon.state.mirror_fault == ""


def test_nothing_is_said_of_a_model_that_nobody_needs_any_more_when_its_pull_fails(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", user=USER)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = environ_with(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with Kept(root, environ) as kept:
            kept.wait_until(lambda: kept.model().state == "pulling")
            (root / "model_catalog.toml").write_text(CATALOG.replace('"arena"', '"other"'))
            configure(root, "user", model="other")
            kept.wait_until(lambda: kept.model("other").state == "pulling", "the pull of arena has failed")
            assert [model.name for model in kept.daemon.state.models()] == ["other"]


def test_a_model_that_was_damaged_while_nothing_ran_is_healed(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", user=USER)
    with running_mirror(hub_folder(tmp_path / "hub")) as hub:
        environ = environ_with(tmp_path, HF_ENDPOINT=hub.endpoint)
        with Kept(root, environ) as kept:
            kept.wait_until(lambda: kept.model().state == "ready")
        model = root / "models/arena/model.onnx"
        good = model.read_bytes()
        model.unlink()  # a link to the cache, which stays as it is
        model.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
        with Kept(root, environ) as kept:
            kept.wait_until(lambda: kept.said("arena: model.onnx: got ") and kept.model().state == "ready")
            assert model.read_bytes() == good


def test_a_node_that_was_given_up_is_started_again_when_what_it_lacked_is_there(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", camera=CAMERA)
    with Kept(root, environ_with(tmp_path)) as kept:
        kept.wait_until(lambda: kept.said("[INFO] camera: is started again: it had failed"))
        assert not kept.daemon.ready.ok
        (root / "plugged-in").touch()
        kept.wait_until_ready()


def test_nodes_and_settings_are_followed_while_the_others_run_on(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", ticker=TICKER)
    with Kept(root, environ_with(tmp_path)) as kept:
        kept.wait_until_ready()
        pid = kept.node("ticker").pid
        configure(root, "user", model="nowhere")
        add_node(root, "user", USER)
        kept.daemon.reload()
        # No catalog has it: it is started, and says itself what it lacks.
        kept.wait_until(lambda: kept.node("user").state in {"restarting", "failed"})
        kept.wait_until(lambda: kept.model("nowhere").reason == 'model "nowhere" is not in the catalog')
        assert kept.model("nowhere").state == "absent"

        (root / "nodes/user/node.py").unlink()
        kept.daemon.reload()
        kept.wait_until(lambda: kept.daemon.state.node("user") is None)
        assert kept.daemon.state.model("nowhere") is None
        settings = root / "configs/common/mecha.toml"
        settings.write_text("[nodes.tickr]\nrestart = 'never'\n")
        kept.wait_until(lambda: "no such node" in kept.daemon.state.catalog_fault)
        settings.write_text("[nodes.ticker]\nrestart = 'never'\n")
        kept.wait_until(lambda: kept.node("ticker").pid not in (None, pid), "the settings of the node are taken")
        assert kept.daemon.state.catalog_fault == ""


def test_the_model_of_a_node_is_what_its_files_say_or_its_program_has_by_default(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project", user=USER, detector=DETECTOR, ticker=TICKER)
    project = find_project(root, {})

    def models() -> dict[str, str | None]:
        return dict(read_needs(project, {}).models)

    assert models() == {"user": "arena", "detector": "arena-n", "ticker": None}
    configure(root, "detector", model_path="models/mine/model.onnx")
    configure(root, "user", model_path="weights/mine.onnx")
    assert models() == {"user": None, "detector": "mine", "ticker": None}
    configure(root, "user").write_text("{")
    needs = read_needs(project, {})
    assert list(needs.faults) == ["user"]
    assert needs.faults["user"].startswith("configs/common/nodes/user/config.json:1:2: not JSON: ")


def test_one_daemon_keeps_a_project(tmp_path: Path) -> None:
    root = kept_project(tmp_path / "project")
    environ = environ_with(tmp_path)
    with Kept(root, environ) as kept:
        with pytest.raises(BusyError) as caught:
            Kept(root, environ).daemon.start()
        pid = kept.daemon.place.pid
        assert str(caught.value) == f"the daemon of this project runs already: process {pid} keeps {root}"
        assert caught.value.hint == "`mecha daemon status` tells what it does, `mecha daemon stop` ends it."
        began_s = time.monotonic()
    assert time.monotonic() - began_s < PATIENCE_S
    wait_for(lambda: kept.daemon.place.pid is None, timeout_s=PATIENCE_S)
    assert kept.daemon.ready == (False, "the daemon ends")
