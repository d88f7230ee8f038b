"""Folders, cameras and files of a project: may the user who runs mecha use them?"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mecha.daemon.identity import Identity
from mecha.daemon.unit_text import UnitPlan
from mecha.doctor.cameras import camera_findings
from mecha.doctor.files import NodeConfigs, project_findings, read_configs
from mecha.doctor.finding import Finding
from mecha.doctor.folders import disk_findings, folder_findings
from mecha.errors import NotFoundError
from mecha.project import Project, Settings, bundled_dir, find_project

SOMEBODY = Identity("somebody", 54321, frozenset({54321}), own=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "robot"
    root.mkdir()
    (root / "model_catalog.toml").write_text("")
    shutil.copytree(bundled_dir() / "nodes", root / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(bundled_dir() / "configs", root / "configs")
    return find_project(root, {})


@pytest.fixture
def reachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that everybody may reach; those of pytest are its user's alone."""
    folder = Path("/var/tmp") / f"mecha-doctor-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def of_service(root: Path, user: Identity) -> list[Finding]:
    """What is found for a service whose Python everybody may reach."""
    project = Project(root=root, user_level=False, environment=None, settings=Settings())
    plan = UnitPlan(root, python=Path(shutil.which("env") or "/usr/bin/env"), needed=(Path("/usr"),))
    return list(folder_findings(project, {}, user, plan))


def test_this_user_may_write_in_its_own_project(project: Project, tmp_path: Path) -> None:
    (finding,) = folder_findings(project, {"MECHA_CACHE_DIR": str(tmp_path / "cache")}, Identity.current())
    assert finding.level == "ok"
    assert finding.what.endswith(" may write in the project (mecha.lock), models, configs, the cache, temporary files")


def test_a_folder_that_lets_the_user_of_the_service_through_to_nothing_is_named(reachable: Path) -> None:
    (reachable / "private/robot").mkdir(parents=True)
    (reachable / "private").chmod(0o700)
    (finding,) = of_service(reachable / "private/robot", SOMEBODY)
    assert finding.what == f"{reachable}/private does not let somebody through to the project"
    assert finding.remedy == f"chmod o+rx {reachable}/private, or move the project, for example to /opt."


def test_where_the_user_of_the_service_cannot_write_is_told_with_the_command(reachable: Path) -> None:
    (reachable / "models").mkdir()
    (reachable / "models").chmod(0o777)
    found = of_service(reachable, SOMEBODY)
    assert [(item.level, item.what) for item in found] == [
        ("wrong", f"somebody cannot write in {reachable}: the project (mecha.lock)"),
        ("wrong", f"somebody cannot write in {reachable}: configs"),
    ]
    assert found[0].remedy == (
        f"sudo chgrp -R somebody {reachable} && sudo chmod -R g+rwX {reachable}; `mecha daemon install` does it."
    )
    member = Identity("somebody", 54321, frozenset({reachable.stat().st_gid}), own=False)
    reachable.chmod(0o775)
    assert [item.level for item in of_service(reachable, member)] == ["ok"]


def test_only_the_class_that_a_user_is_in_counts(tmp_path: Path) -> None:
    tmp_path.chmod(0o507)
    owner = Identity("owner", tmp_path.stat().st_uid, frozenset(), own=False)
    if owner.uid != 0:
        assert not owner.may_write_in(tmp_path)
    assert not Identity("member", 54321, frozenset({tmp_path.stat().st_gid}), own=False).may_enter(tmp_path)
    assert SOMEBODY.may_write_in(tmp_path)
    assert not SOMEBODY.may_read(tmp_path / "nothing")


def test_a_user_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFoundError, match=r'^no user "nobody-of-that-name" on this system$'):
        Identity.named("nobody-of-that-name")


def test_the_room_on_the_disk_is_told_once_for_each_disk(project: Project, tmp_path: Path) -> None:
    (finding,) = disk_findings(project, {"MECHA_CACHE_DIR": str(tmp_path / "cache")})
    assert finding.check == "disk"
    assert finding.what.endswith("(the project, the cache)")


def test_a_camera_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("")
    config = {"camera": {"source": "2"}}
    (finding,) = camera_findings(config, Identity.current(), dev=tmp_path)
    assert finding.level == "wrong"
    assert finding.what == f"camera wants 2, and {tmp_path}/video2 is not there; there is {tmp_path}/video0"


def test_a_camera_that_the_user_may_not_open_is_told_with_its_group(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.write_text("")
    device.chmod(0o660)
    (finding,) = camera_findings({"camera": {"source": 0}}, SOMEBODY, dev=tmp_path)
    assert finding.what == f"camera wants 0, and somebody may not open {device}"
    assert finding.remedy.startswith("sudo usermod -aG ")


def test_what_does_not_say_that_it_is_a_camera_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("")
    (finding,) = camera_findings({"camera": {"source": "0"}}, Identity.current(), dev=tmp_path)
    assert (finding.level, finding.remedy) == ("note", "`mecha detect 0` tries it.")


def test_nodes_that_want_no_camera_of_this_machine_need_none(tmp_path: Path) -> None:
    config = {"camera": {"source": "arena://"}, "object-detector": {"model": "arena-n"}}
    (finding,) = camera_findings(config, Identity.current(), dev=tmp_path)
    assert (finding.level, finding.what) == ("ok", "no node wants one of this machine; there is none")


def test_faults_of_all_files_of_a_project_are_found(project: Project) -> None:
    (project.root / "model_catalog.toml").write_text('[[models]]\nname = "a"\nreppo = "b/c"\n')
    (project.root / "mecha.lock").write_text("files = 3\n")
    config = project.configs_dir / "common/nodes/object-detector/config.json"
    config.write_text('{"model": "arena-n", "use_int8": "sometimes"}')
    found = list(project_findings(project, read_configs(project, os.environ)))
    assert {item.level for item in found} == {"wrong"}
    catalog, lock, node = (item.what for item in found)
    assert "model_catalog.toml:3: models[0].reppo: unknown key" in catalog
    assert lock == "mecha.lock: files: got 3; expected tables"
    assert node.startswith("configs/common/nodes/object-detector/config.json:1: use_int8")


def test_a_node_whose_model_is_not_there_is_told_what_to_pull(project: Project) -> None:
    found = list(project_findings(project, read_configs(project, os.environ)))
    assert [(item.check, item.level) for item in found] == [("project", "ok"), ("models", "note")]
    assert found[1].what == "object-detector wants arena-n, which is not pulled"
    assert found[1].remedy == "`mecha models pull arena-n`"


def test_a_node_that_wants_a_model_of_no_catalog_is_wrong(project: Project) -> None:
    found = list(project_findings(project, NodeConfigs({"object-detector": {"model": "yolov8m"}})))
    assert found[1].level == "wrong"
    assert found[1].what.startswith("object-detector wants yolov8m, which no catalog has; did you mean ")


def test_code_of_a_node_that_breaks_off_is_a_finding(project: Project) -> None:
    code = "import os\nprint('{\"node\"', flush=True)\nos._exit(7)\n"
    (project.nodes_dir / "camera/node.py").write_text(code)
    configs = read_configs(project, os.environ)
    assert [item.what for item in configs.faults] == ["the code of a node broke off: exit code 7"]
