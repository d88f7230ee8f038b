"""How catalogs are layered, what they refuse, and what comes with mecha."""

import hashlib
from pathlib import Path

import pytest

import mecha
from mecha.catalog.catalog import load_catalog, parse_catalog, read_catalog
from mecha.catalog.schema import QuantizeConfig
from mecha.errors import ConfigError, NotFoundError
from mecha.project import Project, bundled_dir, find_project
from mecha.store.blobs import BlobCache, packaged_models


def table(name: str, description: str = "", more: str = "") -> str:
    return (
        f'[[models]]\nname = "{name}"\ndescription = "{description}"\nrepo = "a/b"\nfilename = "m.onnx"\n'
        f'preprocessing_preset = "yolo"\n{more}'
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "robot").mkdir()
    (tmp_path / "robot/model_catalog.toml").write_text(table("mine") + table("yolov8n", "ours"))
    return find_project(tmp_path / "robot", {})


def write_user_catalog(project: Project, text: str) -> Path:
    project.user_root.mkdir(parents=True, exist_ok=True)
    file = project.user_root / "model_catalog.toml"
    file.write_text(text)
    return file


def test_a_later_layer_takes_the_place_of_an_earlier_entry(project: Project) -> None:
    user_file = write_user_catalog(project, table("yolov8n", "theirs") + table("yolov8s", "theirs"))
    catalog = load_catalog(project)
    assert catalog.get("yolov8n").description == "ours"
    assert catalog.get("yolov8s").description == "theirs"
    assert [catalog.layer_of(name) for name in ("yolov8n", "yolov8s", "arena-n", "mine")] == [
        "project",
        "user",
        "package",
        "project",
    ]
    assert catalog.file_of("yolov8s") == user_file
    assert [entry.name for entry in catalog.entries].count("yolov8n") == 1


def test_outside_of_projects_the_user_layer_is_over_the_package(tmp_path: Path) -> None:
    project = find_project(tmp_path, {})
    assert load_catalog(project).layer_of("yolov8n") == "package"
    write_user_catalog(project, table("yolov8n", "theirs"))
    assert load_catalog(project).layer_of("yolov8n") == "user"


def test_in_a_source_checkout_the_packaged_catalog_is_the_project_s() -> None:
    catalog = load_catalog(find_project(bundled_dir(), {}))
    assert len({entry.name for entry in catalog.entries}) == len(catalog.entries)
    assert catalog.layer_of("yolov8n") == "project"


def test_an_unknown_model_is_told_with_the_nearest_name(project: Project) -> None:
    with pytest.raises(NotFoundError) as caught:
        load_catalog(project).get("yolo8n")
    assert str(caught.value) == 'model "yolo8n" is not in the catalog; did you mean "yolov8n"?'
    assert caught.value.hint == "`mecha models list` shows what can be pulled."
    with pytest.raises(NotFoundError) as far:
        load_catalog(project).layer_of("zzz")
    assert str(far.value) == 'model "zzz" is not in the catalog'


def test_a_name_given_twice_is_refused_with_both_lines_beside_all_other_faults() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_catalog(table("a") + table("b", more="input_sise = 3\n") + table("a"), where="model_catalog.toml")
    assert str(caught.value).splitlines() == [
        'model_catalog.toml:13: models[1].input_sise: unknown key; did you mean "input_size"?',
        'model_catalog.toml:15: models[2].name: "a" is already the name of the entry in line 2',
    ]


def test_a_syntax_error_is_told_with_line_and_column(project: Project) -> None:
    project.catalog_file.write_text('[[models]]\nname = "a\n')
    with pytest.raises(ConfigError) as caught:
        load_catalog(project)
    assert str(caught.value).startswith("model_catalog.toml:2:10: not TOML: illegal character")


def test_a_broken_catalog_of_the_user_names_its_file(project: Project) -> None:
    file = write_user_catalog(project, "[[model]]\n")
    with pytest.raises(ConfigError) as caught:
        load_catalog(project)
    assert str(caught.value) == f'{file}:1: model: unknown key; did you mean "models"?'


@pytest.mark.parametrize("text", ["models = 3", "models = [3]", "[models]"])
def test_what_is_no_list_of_tables_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_catalog(text, where="c")


@pytest.mark.parametrize("key", ["path", "data", "list"])
def test_calibration_photos_are_found_beside_the_catalog_that_names_them(tmp_path: Path, key: str) -> None:
    file = tmp_path / "model_catalog.toml"
    file.write_text(table("a", more=f'quantize.calibration = {{ {key} = "photos" }}'))
    (entry,) = read_catalog(file, where="c")
    assert entry.quantize.calibration is not None
    assert getattr(entry.quantize.calibration, key) == str(tmp_path / "photos")


@pytest.mark.parametrize(("path", "found"), [("custom/m.onnx", "custom/m.onnx"), ("/models/m.onnx", "/models/m.onnx")])
def test_a_model_on_this_device_is_found_beside_the_catalog_that_names_it(
    tmp_path: Path, path: str, found: str
) -> None:
    file = tmp_path / "model_catalog.toml"
    file.write_text(f'[[models]]\nname = "a"\npath = "{path}"\n')
    (entry,) = read_catalog(file, where="c")
    assert entry.path == str(tmp_path / found)
    assert (entry.repo, entry.filename, entry.where) == ("", "", entry.path)


def test_the_packaged_catalog_has_the_models_of_the_documentation() -> None:
    entries = {e.name: e for e in read_catalog(bundled_dir() / "model_catalog.toml", where="model_catalog.toml")}
    assert set(entries) == {
        "yolov8n", "yolov8s", "yolov10n", "yolo11n", "yolo11s", "dfine-n", "dfine-s", "arena-n",
    }  # fmt: skip
    for name in ("yolov8n", "yolov8s", "yolov10n", "yolo11n", "yolo11s"):
        entry = entries[name]
        assert (entry.repo, entry.filename) == ("deepghs/yolos", f"{name}/model.onnx")
        assert (entry.license, entry.preprocessing_preset) == ("AGPL-3.0", "yolo")
    assert entries["yolov8n"].quantize == QuantizeConfig(enabled=True, method="dynamic_int8")
    assert entries["yolov8n"].description == "YOLOv8 Nano - Fast object detection"
    for name in ("dfine-n", "dfine-s"):
        assert entries[name].license == "Apache-2.0"
        assert entries[name].sha256 is not None
        assert entries[name].label_names is not None
    assert entries["arena-n"].quantize.method == "static_int8"


def test_the_packaged_arena_model_is_the_one_its_entry_pins() -> None:
    file = Path(mecha.__file__).parent / "arena" / "arena-n.onnx"
    entries = {e.name: e for e in read_catalog(bundled_dir() / "model_catalog.toml", where="model_catalog.toml")}
    content = file.read_bytes()
    expected = (hashlib.sha256(content).hexdigest(), len(content))
    pinned = (entries["arena-n"].sha256, entries["arena-n"].size_bytes)
    assert pinned == expected, f'write into model_catalog.toml:\nsha256 = "{expected[0]}"\nsize_bytes = {expected[1]}'


def test_the_packaged_arena_model_needs_no_network(tmp_path: Path) -> None:
    entry = load_catalog(find_project(tmp_path, {})).get("arena-n")
    assert entry.sha256 is not None
    assert BlobCache(tmp_path / "cache", packaged_models()).find(entry.sha256) is not None
