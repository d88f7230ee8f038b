"""Which project a command finds, and what it says when there is none."""

import os
from pathlib import Path

import pytest

from mecha.errors import ConfigError, NotFoundError, UsageError
from mecha.project import Settings, bundled_dir, cache_dir, find_project, require_project, require_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "robot/configs/lab").mkdir(parents=True)
    (tmp_path / "robot/configs/common").mkdir()
    (tmp_path / "robot/model_catalog.toml").write_text("")
    return tmp_path / "robot"


def test_the_project_is_the_nearest_folder_upwards_with_a_catalog(root: Path) -> None:
    deep = root / "a/b"
    deep.mkdir(parents=True)
    project = find_project(deep, {})
    assert (project.root, project.user_level, project.environment) == (root, False, None)
    assert project.models_dir == root / "models"
    assert project.lock_file == root / "mecha.lock"


def test_outside_of_any_project_it_is_the_one_of_the_user(tmp_path: Path, private_home: Path) -> None:
    project = find_project(tmp_path, {})
    assert project.user_level
    assert project.root == project.user_root
    assert private_home in project.root.parents
    assert project.settings == Settings()


def test_inside_the_folder_of_the_user_level_project_it_is_still_that(tmp_path: Path) -> None:
    user_root = find_project(tmp_path, {}).root
    user_root.mkdir(parents=True)
    (user_root / "model_catalog.toml").write_text("")
    assert find_project(user_root, {}).user_level


def test_a_command_that_needs_a_project_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        require_project(tmp_path, {})
    assert str(caught.value) == f"no project here: {tmp_path} and the folders above it have no model_catalog.toml"
    assert caught.value.hint == "`mecha init DIR` makes a project; or change to the folder of one."


def test_the_root_is_found_whatever_the_settings_say(root: Path, tmp_path: Path) -> None:
    (root / "configs/common/mecha.toml").write_text("[hub]\nfoo = 1\n")
    (root / "nodes").mkdir()
    assert require_root(root / "nodes", {"MECHA_ENV": "lab"}) == root
    with pytest.raises(NotFoundError, match="no project here"):
        require_root(tmp_path, {})
    with pytest.raises(NotFoundError, match='no environment "lap"'):
        require_root(root, {}, "lap")


def test_the_environment_is_laid_over_common(root: Path) -> None:
    for project in (find_project(root, {"MECHA_ENV": "lab"}), find_project(root, {"MECHA_ENV": "x"}, "lab")):
        assert project.environment == "lab"
        assert project.node_config_files("camera") == (
            root / "configs/common/nodes/camera/config.json",
            root / "configs/lab/nodes/camera/config.json",
        )
    assert find_project(root, {"MECHA_ENV": ""}).node_config_files("camera") == (
        root / "configs/common/nodes/camera/config.json",
    )


def test_an_environment_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        find_project(root, {"MECHA_ENV": "lap"})
    where = root / "configs" / "lap"
    assert str(caught.value) == f'MECHA_ENV: no environment "lap": {where} is no folder; did you mean "lab"?'
    assert caught.value.hint == "The environments here are common or lab."


def test_an_environment_set_for_the_whole_device_does_not_matter_outside_of_projects(tmp_path: Path) -> None:
    assert find_project(tmp_path, {"MECHA_ENV": "lab"}).user_level


@pytest.mark.parametrize("name", ["../lab", "a/b", ".", "..", "-x", "a b"])
def test_an_environment_cannot_leave_the_configs_folder(root: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_project(root, {}, name)
    assert str(caught.value) == f'--env: got "{name}"; expected the name of a folder in configs/'


def test_settings_are_read_from_the_common_folder(root: Path) -> None:
    (root / "configs/common/mecha.toml").write_text(
        '[hub]\nendpoint = "http://gateway:8080"\n[quantize]\ntime_limit_s = 60\n'
        '[bus]\nconnect = ["tcp/10.0.0.2:7447"]\n'
    )
    settings = find_project(root, {}).settings
    assert settings.hub.endpoint == "http://gateway:8080"
    assert (settings.quantize.time_limit_s, settings.quantize.memory_limit_mb) == (60, 4096)
    assert (settings.bus.listen, settings.bus.connect) == ((), ("tcp/10.0.0.2:7447",))


def test_all_faults_of_the_settings_are_told(root: Path) -> None:
    (root / "configs/common/mecha.toml").write_text(
        '[hub]\nendpoint = "gateway"\n[quantize]\ntime_limit_s = 0\nmemory_limit_mb = 1.5\n[buss]\n'
    )
    with pytest.raises(ConfigError) as caught:
        find_project(root, {})
    assert str(caught.value).splitlines() == [
        'configs/common/mecha.toml:2: hub.endpoint: got "gateway"; '
        "expected the address of a Hub, as in https://huggingface.co",
        "configs/common/mecha.toml:4: quantize.time_limit_s: got 0; expected seconds, more than 0",
        "configs/common/mecha.toml:5: quantize.memory_limit_mb: got 1.5; expected megabytes, at least 256",
        'configs/common/mecha.toml:6: buss: unknown key; did you mean "bus"?',
    ]


def test_the_cache_is_shared_by_all_projects_and_can_be_moved(private_home: Path, tmp_path: Path) -> None:
    assert private_home in cache_dir({}).parents
    assert cache_dir({"MECHA_CACHE_DIR": str(tmp_path)}) == tmp_path
    assert cache_dir({"MECHA_CACHE_DIR": "~/models"}) == private_home / "models"
    assert cache_dir({"MECHA_CACHE_DIR": "models"}) == Path(os.curdir).absolute() / "models"


def test_a_catalog_comes_with_mecha() -> None:
    assert (bundled_dir() / "model_catalog.toml").is_file()
