"""What systemd says of the service, in words; and the command as a whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mecha.cli.doctor import finding_lines
from mecha.daemon.place import DaemonPlace
from mecha.doctor.finding import exit_code, note, ok, wrong
from mecha.doctor.service import service_findings, status_findings, unit_findings, unit_state
from mecha.project import find_project
from mecha.store.locks import exclusive

RUNS = {"ActiveState": "active", "SubState": "running", "Result": "success", "NRestarts": "0"}


@pytest.mark.parametrize(
    ("told", "level", "what"),
    [
        ({}, "ok", "the service mecha runs"),
        ({"NRestarts": "1"}, "note", "the service mecha runs; systemd had to start it again once"),
        ({"ActiveState": "inactive"}, "note", "the service mecha is inactive"),
        (
            {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "3"},
            "wrong",
            "the service mecha has failed: exit code 3",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "watchdog"},
            "wrong",
            "the service mecha ends again and again: it showed no sign of life for 30 s",
        ),
        (
            {"ActiveState": "failed", "Result": "oom-kill"},
            "wrong",
            "the service mecha has failed: the system ended it for its memory",
        ),
    ],
)
def test_the_state_of_the_service_is_told_in_words(told: dict[str, str], level: str, what: str) -> None:
    (finding,) = unit_findings("mecha", RUNS | told)
    assert (finding.level, finding.what) == (level, what)


def test_a_service_that_does_not_start_with_the_system_is_a_note() -> None:
    _, finding = unit_findings("mecha", RUNS | {"UnitFileState": "disabled"})
    assert finding.remedy == "sudo systemctl enable mecha"


def test_a_unit_that_systemd_does_not_know_has_no_state_that_fails() -> None:
    told = unit_state("mecha-that-nobody-installed")
    assert told is None or told["ActiveState"] == "inactive"


def test_without_a_service_it_is_told_that_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "model_catalog.toml").write_text("")
    (finding,) = service_findings(find_project(tmp_path, {}), {"XDG_RUNTIME_DIR": str(tmp_path)}, None)
    assert finding.what == "it does not run, and no service is installed"


def test_what_a_daemon_says_of_itself_is_told() -> None:
    well = {"ready": True, "why": "", "catalog_fault": "", "mirror_fault": ""}

    def found(**changes: object) -> list[tuple[str, str]]:
        return [(item.level, item.what) for item in status_findings(well | changes)]

    assert found() == [("ok", "it is ready")]
    assert found(catalog_fault="model_catalog.toml:3: unknown key") == [
        ("wrong", "it goes on with older files: model_catalog.toml:3: unknown key"),
        ("ok", "it is ready"),
    ]
    assert found(ready=False, mirror_fault="http://hub: no answer") == [
        ("note", "it brings no models: http://hub: no answer")
    ]
    assert found(ready=False, why="yolov8n is being pulled") == [("note", "it is not ready: yolov8n is being pulled")]


def test_a_daemon_that_runs_and_does_not_answer_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "model_catalog.toml").write_text("")
    project, environ = find_project(tmp_path, {}), {"XDG_RUNTIME_DIR": str(tmp_path)}
    place = DaemonPlace(project.root, environ)
    place.make()
    with exclusive(place.lock_file, timeout_s=0):
        runs, silent = service_findings(project, environ, None)
    assert runs.what == f"it runs in process {os.getpid()}; no service is installed that starts it with the system"
    assert silent.level == "wrong"


def test_only_what_has_to_be_changed_makes_the_exit_code_3() -> None:
    assert exit_code([]) == 0
    assert exit_code([ok("a", "b"), note("a", "b", "c")]) == 0
    assert exit_code([ok("a", "b"), wrong("a", "b", "c", "d")]) == 3


def test_a_finding_is_shown_with_its_reason_and_its_remedy() -> None:
    assert finding_lines(wrong("disk", "it is full\nand more", "Nothing fits.", "Free some.")) == [
        "WRONG disk            it is full",
        "                      and more",
        "                      why   Nothing fits.",
        "                      next  Free some.",
    ]
    assert finding_lines(ok("cpu", "fine", "INT8 is fast.")) == ["ok    cpu             fine"]


def doctor(cwd: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mecha", "doctor", "--offline", *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_writes_json_with_a_schema_and_ends_with_the_code_of_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "model_catalog.toml").write_text("")
    (tmp_path / "mecha.lock").write_text("files = 3\n")
    done = doctor(tmp_path, "--json")
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert {tuple(item) for item in document["findings"]} == {("check", "level", "what", "why", "remedy")}
    checks = {item["check"] for item in document["findings"]}
    assert checks >= {
        "onnxruntime",
        "cpu",
        "threads",
        "memory",
        "clock",
        "project",
        "folder",
        "disk",
        "camera",
        "daemon",
    }
    assert document["wrong"] == sum(item["level"] == "wrong" for item in document["findings"]) >= 1
    assert done.returncode == 3


def test_settings_that_cannot_be_read_are_a_finding_too(tmp_path: Path) -> None:
    (tmp_path / "model_catalog.toml").write_text("")
    settings = tmp_path / "configs/common/mecha.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[hub]\nendpont = 1\n")
    done = doctor(tmp_path)
    assert done.returncode == 3
    assert "WRONG project         configs/common/mecha.toml:2: hub.endpont" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("to be changed")
    assert done.stderr == ""
