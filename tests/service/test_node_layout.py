"""A node of one's own, laid out: it is one, it passes its test, and nothing of the user's is written over."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runtime.projects import configure

from mecha.errors import DiskError, UsageError
from mecha.project import Project, find_project
from mecha.runtime.program import load_node, node_names
from mecha.service.node_layout import lay_out_node


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "model_catalog.toml").touch()
    return find_project(tmp_path, {})


def run(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_node_is_laid_out_and_passes_its_test_as_written(project: Project) -> None:
    done = run("mecha", "init", "--node", "cone-alarm", cwd=project.root)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "wrote configs/common/nodes/cone-alarm/config.json",
        "wrote tests/test_cone_alarm.py",
        "wrote nodes/cone-alarm/node.py",
        "next: pytest tests/test_cone_alarm.py && mecha dev",
    ]
    tested = run("pytest", "-q", "-W", "error", "tests/test_cone_alarm.py", cwd=project.root)
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout


def test_from_a_folder_of_the_project_the_next_command_leads_to_its_root(project: Project) -> None:
    (project.root / "notes").mkdir()

    done = run("mecha", "init", "--node", "cone-alarm", cwd=project.root / "notes")

    assert done.stdout.splitlines()[-1] == "next: cd .. && pytest tests/test_cone_alarm.py && mecha dev"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cone-alarm", "ConeAlarm"),
        ("a1", "A1"),
        ("node", "NodeNode"),
        ("none", "NoneNode"),
        ("json-message", "JsonMessageNode"),
    ],
)
def test_the_class_has_the_name_of_the_node_where_that_is_free(project: Project, name: str, kind: str) -> None:
    lay_out_node(project, name)

    node = load_node(project.nodes_dir, name)

    assert node.__name__ == kind
    said = json.loads(project.node_config_files(name)[0].read_text())
    assert node.config_model.model_validate(said) == node.config_model()


@pytest.mark.parametrize(
    "name", ["", "Cone", "cone_alarm", "cone alarm", "-cone", "cone-", "../cone", "1st", "kegel-ä"]
)
def test_a_name_that_is_none_is_refused_with_a_sentence(project: Project, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        lay_out_node(project, name)

    assert str(caught.value) == (
        f'--node: got "{name}"; expected words of small letters and digits, joined by "-", as in cone-alarm'
    )
    assert node_names(project.nodes_dir) == ()


def test_a_node_that_is_there_stays_as_it_is(project: Project) -> None:
    (program,) = [file for file in lay_out_node(project, "cone-alarm") if file.name == "node.py"]
    program.write_text("mine = True\n")

    with pytest.raises(UsageError) as caught:
        lay_out_node(project, "cone-alarm")

    assert str(caught.value) == "--node: nodes/cone-alarm/node.py is there already"
    assert caught.value.hint == "Name another node."
    assert program.read_text() == "mine = True\n"


def test_a_config_that_is_there_stays_as_it_is(project: Project) -> None:
    config = configure(project.root, "cone-alarm", at_least=7)

    written = lay_out_node(project, "cone-alarm")

    assert config not in written
    assert json.loads(config.read_text()) == {"at_least": 7}


def test_where_nothing_can_be_written_no_node_is_left(project: Project) -> None:
    project.configs_dir.write_text("in the way")

    with pytest.raises(DiskError) as caught:
        lay_out_node(project, "cone-alarm")

    file = project.configs_dir / "common/nodes/cone-alarm/config.json"
    assert str(caught.value) == f"{file}: cannot write: not a directory"
    assert node_names(project.nodes_dir) == ()


def test_outside_of_a_project_there_is_no_place_for_a_node(tmp_path: Path) -> None:
    done = run("mecha", "init", "--node", "cone-alarm", cwd=tmp_path)

    assert done.returncode == 4
    assert done.stderr == (
        f"error: no project here: {tmp_path} and the folders above it have no model_catalog.toml\n"
        "  next: `mecha init DIR` makes a project; or change to the folder of one.\n"
    )
