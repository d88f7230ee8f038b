"""What a publication may touch: the model's own folder, and nothing that somebody else put there."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from mecha.errors import DiskError, NotFoundError
from mecha.store.filenames import is_file_name
from mecha.store.models import ModelStore
from mecha.store.published import BrokenModel
from tests.store.example import publish


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    return folder


def test_a_folder_of_somebody_else_is_not_replaced(store: ModelStore) -> None:
    folder = store.models_dir / "m"
    folder.mkdir(parents=True)
    (folder / "diary.txt").write_text("mine")

    with pytest.raises(DiskError) as refusal:
        publish(store, "m", "a")

    assert str(refusal.value) == (
        f"{folder}: a folder is there that mecha did not make (it holds diary.txt); expected none, or a model"
    )
    assert refusal.value.hint == "Move it away, or give the model another name."
    assert (folder / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize("left", ["manifest.json", "model.onnx", "config.json"])
def test_a_model_that_lost_its_files_is_replaced(store: ModelStore, left: str) -> None:
    folder = publish(store, "m", "a").path
    for file in folder.iterdir():
        if file.name != left:
            file.unlink()

    assert publish(store, "m", "b").spec.source.revision == "b"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_in_the_place_of_a_model_goes_and_not_what_it_leads_to(store: ModelStore, precious: Path) -> None:
    store.models_dir.mkdir()
    (store.models_dir / "m").symlink_to(precious)

    published = publish(store, "m", "a")

    assert not published.path.is_symlink()
    assert sorted(file.name for file in precious.iterdir()) == ["diary.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_removing_a_model_that_is_a_link_removes_the_link(store: ModelStore, tmp_path: Path) -> None:
    elsewhere = ModelStore(tmp_path / "elsewhere")
    publish(elsewhere, "m", "a")
    store.models_dir.mkdir()
    (store.models_dir / "m").symlink_to(elsewhere.models_dir / "m")

    store.remove("m")

    assert not os.path.lexists(store.models_dir / "m")
    assert elsewhere.require("m").name == "m"


@pytest.mark.parametrize(
    "name", ["../m", "..", ".", "", "/etc", "a/b", "a\\b", "a\0b", ".hidden", "con", "A", "a" * 65]
)
def test_no_name_leads_out_of_the_models(store: ModelStore, name: str) -> None:
    assert store.find(name) is None
    for act in (store.remove, store.lock_file, store.require, store.verify):
        with pytest.raises(NotFoundError):
            act(name)
    with pytest.raises(NotFoundError), store.staging(name):
        pytest.fail("a folder was made")


@pytest.mark.parametrize("name", ["../../precious/diary.txt", "/etc/passwd", "a/b", "..", ".ssh", "a\nb", "", "c:x"])
def test_a_manifest_that_names_files_elsewhere_is_broken(store: ModelStore, name: str) -> None:
    folder = publish(store, "m", "a").path
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["model.onnx"]
    (folder / "manifest.json").write_text(json.dumps(manifest))

    found = store.find("m")

    assert not is_file_name(name)
    assert isinstance(found, BrokenModel)
    assert "the name of a file in the model's folder: letters, digits, . _ and -, without a path" in found.reason


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.usefixtures("umask")
def test_everybody_may_read_a_model_and_only_its_owner_write_it(store: ModelStore) -> None:
    folder = publish(store, "m", "a", int8=True).path

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert set(modes.values()) == {0o644}, modes
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
