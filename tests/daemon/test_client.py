"""`mecha models` beside a daemon: by it where it runs, alone where it does not, with the same words."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mecha.cli import models as command_line
from mecha.daemon.client import DaemonModels
from mecha.daemon.hub_settings import settings_digest
from mecha.daemon.place import DaemonPlace
from mecha.errors import BusyError, MechaError, NotFoundError
from mecha.hub.mirror import RunningMirror
from mecha.project import find_project
from mecha.service.models import ModelService
from mecha.service.request import PullOptions
from tests.daemon.asked_device import CATALOG, PATIENCE_S, Device
from tests.runtime.waiting import wait_for


@dataclass(frozen=True)
class Said:
    output: str
    exit_code: int
    error: str = ""
    hint: str = ""


def said(root: Path, *arguments: str) -> Said:
    """Run `mecha models`, and return what it says of a project, wherever that is."""
    before = Path.cwd()
    os.chdir(root)
    try:
        done = CliRunner().invoke(command_line.app, arguments)
    finally:
        os.chdir(before)
    output = done.output.replace(str(root), "ROOT")
    if isinstance(done.exception, MechaError):
        error = done.exception
        return Said(output, error.exit_code, str(error).replace(str(root), "ROOT"), error.hint)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Said(output, done.exit_code)


def without_rates(output: str) -> list[str]:
    """Return lines without what depends on the moment."""
    return [line.split(", ")[0] for line in output.splitlines() if " B of " not in line]


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """The same project, where no daemon runs."""
    root = tmp_path / "alone"
    root.mkdir()
    (root / "model_catalog.toml").write_text(CATALOG)
    return root


def refuse_alone() -> ModelService:
    raise AssertionError("it was not done by the daemon")


def test_every_command_says_the_same_with_and_without_a_daemon(
    device: Device, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without_service:
        without_service.setattr("mecha.cli.context.model_service", refuse_alone)
        by_daemon = _session(device.root)
    monkeypatch.setenv("MECHA_CACHE_DIR", str(tmp_path / "another cache"))
    assert by_daemon == _session(alone)


def _session(root: Path) -> list[Any]:
    said_of = [
        said(root, "list"),
        said(root, "pull", "arema"),
        said(root, "show", "arema"),
        said(root, "remove", "arena", "-y"),
    ]
    pulled = said(root, "pull", "arena")
    assert pulled.exit_code == 0
    assert "licence of arena: Apache-2.0" in pulled.output
    return [
        *said_of,
        without_rates(pulled.output),
        said(root, "pull", "arena"),
        said(root, "pull", "arena", "--json"),
        said(root, "list"),
        said(root, "list", "--json"),
        without_times(said(root, "show", "arena")),
        said(root, "remove", "arena", "-y"),
        said(root, "list"),
    ]


def without_times(shown: Said) -> list[str]:
    return [line for line in shown.output.splitlines() if "20" not in line]


def test_progress_of_a_pull_comes_through(device: Device) -> None:
    told: list[tuple[str, int, int | None]] = []
    report = _models(device).pull("arena", PullOptions(), lambda *step: told.append(step))
    assert report.changed
    assert report.change is None
    transfers = [(completed, total) for stage, completed, total in told if stage == "download"]
    assert told[0] == ("licence of arena: Apache-2.0", 0, None)
    assert transfers[-1] == (report.downloaded_bytes, report.downloaded_bytes)


def test_who_interrupts_the_command_ends_the_pull_of_the_daemon(device: Device) -> None:
    def interrupt(stage: str, completed: int, total: int | None) -> None:
        if stage == "download" and completed > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _models(device).pull("arena", PullOptions(limit_bytes_per_s=300_000), interrupt)
    wait_for(lambda: device.daemon.state.model("arena") is None, timeout_s=PATIENCE_S, what="the pull ends")
    assert device.daemon.service().store.published("arena") is None


def test_what_a_node_runs_is_not_removed(device: Device) -> None:
    models = _models(device)
    models.pull("arena", PullOptions())
    device.daemon.state.set_model("arena", wanted_by=("front",))
    with pytest.raises(BusyError) as refused:
        models.remove("arena")
    assert str(refused.value) == "arena is run by front: it is not removed"
    assert refused.value.hint == "Give the config.json of front another model first."


def test_another_hub_in_the_environment_is_asked_by_the_command_itself(device: Device) -> None:
    made: list[ModelService] = []
    environ = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}

    def alone() -> ModelService:
        made.append(ModelService(device.daemon.project, os.environ))
        return made[-1]

    assert DaemonModels(device.daemon.project, environ, alone).pull("arena", PullOptions()).changed
    assert len(made) == 1


def test_what_is_no_name_is_refused_as_ever(device: Device) -> None:
    service = ModelService(device.daemon.project, os.environ)
    with pytest.raises(NotFoundError) as by_service:
        service.show("a/../b")
    with pytest.raises(NotFoundError) as refused:
        _models(device, lambda: service).show("a/../b")
    assert str(refused.value) == str(by_service.value)


def test_a_daemon_that_does_not_answer_is_done_without(device: Device, tmp_path: Path) -> None:
    device.daemon.place.note(tmp_path / "nobody.sock")
    service = ModelService(device.daemon.project, os.environ)
    models = _models(device, lambda: service)
    assert models.pull("arena", PullOptions()).changed
    assert models.rows() == service.rows()
    models.remove("arena")
    assert service.store.published("arena") is None


def test_a_broken_catalog_ends_the_list_as_it_does_alone(device: Device) -> None:
    (device.root / "model_catalog.toml").write_text("[[models\n")
    told = said(device.root, "list")
    assert told.exit_code == 3
    assert told.error.startswith("model_catalog.toml:1:9: not TOML: ")


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "HF_TOKEN", "https_proxy", "MECHA_CACHE_DIR", "MECHA_FROZEN"])
def test_what_a_pull_depends_on_changes_the_digest_of_an_environment(name: str) -> None:
    other = {"PATH": "/bin", "TERM": "xterm"}
    assert settings_digest(other) == settings_digest({"PATH": "/usr/bin", name: ""})
    assert settings_digest(other) != settings_digest({**other, name: "1"})


def _models(device: Device, alone: Any = refuse_alone) -> DaemonModels:
    return DaemonModels(device.daemon.project, os.environ, alone)


def test_a_pull_goes_on_alone_when_the_daemon_is_killed(
    tmp_path: Path, alone: Path, arena_hub: RunningMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", arena_hub.endpoint)
    monkeypatch.setenv("MECHA_CACHE_DIR", str(tmp_path / "cache"))
    project = find_project(alone, os.environ)
    place = DaemonPlace(project.root, os.environ)
    service, told = ModelService(project, os.environ), list[int]()
    with subprocess.Popen(
        [sys.executable, "-m", "mecha", "daemon", "run"], cwd=alone, stdout=subprocess.DEVNULL
    ) as daemon:
        try:
            wait_for(place.address.is_socket, timeout_s=PATIENCE_S, what="the daemon answers")

            def kill(stage: str, completed: int, total: int | None) -> None:
                told.append(completed)
                if completed > 100_000 and daemon.poll() is None:
                    daemon.kill()
                    daemon.wait()

            models = DaemonModels(project, os.environ, lambda: service)
            report = models.pull("arena", PullOptions(limit_bytes_per_s=300_000), kill)
        finally:
            daemon.kill()
    published = service.store.require("arena")
    assert daemon.returncode == -signal.SIGKILL
    assert 0 < report.downloaded_bytes < published.manifest.files["model.onnx"].size_bytes - 100_000
