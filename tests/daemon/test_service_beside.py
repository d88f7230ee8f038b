"""A project that a service keeps is kept by nobody else, also where its lock cannot be seen."""

import os
import sys
from pathlib import Path

import pytest

from mecha.cli.app import main
from mecha.daemon.service_unit import InstalledUnit, require_no_service
from mecha.daemon.unit_text import unit_text
from mecha.errors import BusyError
from mecha.project import Project, find_project
from tests.daemon.kept import kept_project
from tests.daemon.units import plan

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="runs a program of a few lines as systemctl")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return find_project(kept_project(tmp_path / "robot"), {})


@pytest.fixture
def units(tmp_path: Path, project: Project) -> Path:
    """A folder of units, of which one keeps the project."""
    folder = tmp_path / "units"
    folder.mkdir()
    (folder / "arm.service").write_text(unit_text(plan(project.root, name="arm")))
    return folder


def system(folder: Path, *, answer: int) -> dict[str, str]:
    """Return an environment whose systemctl ends with this code when it is asked about the unit."""
    folder.mkdir(exist_ok=True)
    program = folder / "systemctl"
    program.write_text(f'#!/bin/sh\n[ "$*" = "is-active --quiet arm" ] && exit {answer}\nexit 9\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_service_that_runs_keeps_others_out(project: Project, units: Path, tmp_path: Path) -> None:
    with pytest.raises(BusyError) as refused:
        require_no_service(project, system(tmp_path / "bin", answer=0), units)

    assert str(refused.value) == f"the service arm keeps {project.root} already"
    assert refused.value.hint == (
        "`sudo mecha daemon status` tells what it does, `sudo systemctl stop arm` ends it."
    )  # fmt: skip


def test_a_service_that_is_stopped_of_another_project_or_of_no_systemd_keeps_nobody_out(
    project: Project, units: Path, tmp_path: Path
) -> None:
    require_no_service(project, system(tmp_path / "bin", answer=3), units)
    require_no_service(project, {**os.environ, "PATH": str(tmp_path / "empty")}, units)
    other = find_project(kept_project(tmp_path / "other"), {})
    require_no_service(other, system(tmp_path / "bin", answer=0), units)


def test_a_systemd_that_does_not_answer_keeps_nobody_out(
    project: Project, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = system(tmp_path / "bin", answer=0)
    (tmp_path / "bin/systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("mecha.daemon.service_unit._ASK_SYSTEMD_S", 0.2)
    require_no_service(project, environ, units)


def test_the_service_itself_is_not_kept_out(project: Project, units: Path, tmp_path: Path) -> None:
    own = InstalledUnit("arm", project.root, "mecha").environ(system(tmp_path / "bin", answer=0))
    require_no_service(project, own, units)


@pytest.mark.parametrize("command", [["daemon", "run"], ["dev", "--plain"]])
def test_commands_that_run_nodes_end_with_10(
    project: Project,
    units: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    monkeypatch.setattr("mecha.daemon.service_unit.UNIT_DIR", units)
    monkeypatch.setenv("PATH", system(tmp_path / "bin", answer=0)["PATH"])
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "argv", ["mecha", *command])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 10
    assert capsys.readouterr().err.startswith(f"error: the service arm keeps {project.root} already\n")
