"""Entries are added and removed; what a person wrote around them stays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mecha.catalog.catalog import parse_catalog
from mecha.catalog.edit import with_entry, without_entry
from mecha.catalog.schema import CalibrationConfig, ModelCatalogEntry, QuantizeConfig
from mecha.errors import ConfigError, NotFoundError
from mecha.project import bundled_dir
from mecha.store.catalog_file import add_entry, remove_entry

TEXT = """\
# Our models.

[[models]]
name = "one"  # the first
repo = "a/b"
filename = "m.onnx"
preprocessing_preset = "yolo"
labels = [
    "cone",  # orange
    # "ball",
]
# not sure about this one

# --- the fast ones ---

# two is better
[[models]]
name = "two"
repo = "a/b"
filename = "m.onnx"
preprocessing_preset = "yolo"
[models.quantize]
method = "auto"

[[models]]
name = "three"
repo = "a/b"
filename = "m.onnx"
preprocessing_preset = "yolo"
# the end
"""

ENTRY = ModelCatalogEntry(name="four", repo="a/b", filename="m.onnx", preprocessing_preset="detr")


def names(text: str) -> list[str]:
    return [entry.name for entry in parse_catalog(text, where="c")]


def test_an_entry_is_added_at_the_end_and_nothing_else_changes() -> None:
    changed = with_entry(TEXT, ENTRY, where="c")
    assert changed == (
        TEXT + '\n[[models]]\nname = "four"\nrepo = "a/b"\nfilename = "m.onnx"\npreprocessing_preset = "detr"\n'
    )


def test_a_model_on_this_device_is_written_by_its_path_alone() -> None:
    changed = with_entry("", ModelCatalogEntry(name="four", path="custom/m.onnx"), where="c")
    assert changed == '[[models]]\nname = "four"\npath = "custom/m.onnx"\n'


def test_all_that_an_entry_says_is_written() -> None:
    entry = ModelCatalogEntry(
        name="four",
        description='a "quoted" one',
        repo="a/b",
        filename="m.onnx",
        preprocessing_preset="raw",
        input_size=320,
        labels=("cone", "ball"),
        quantize=QuantizeConfig(
            max_accuracy_drop=0.05, calibration=CalibrationConfig(repo="a/b", files=("1.jpg", "2.jpg"), samples=2)
        ),
    )
    changed = with_entry("", entry, where="c")
    assert parse_catalog(changed, where="c") == (entry,)
    assert '[models.quantize]\nenabled = true\nmethod = "auto"\nmax_accuracy_drop = 0.05\n' in changed


def test_an_entry_that_is_already_there_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        with_entry(TEXT, ENTRY.model_copy(update={"name": "two"}), where="c")
    assert str(caught.value) == 'c:18: "two" is already in this catalog'
    assert caught.value.hint == "Remove it first, or take another name."


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("one", slice(2, 11)),
        ("two", slice(15, 24)),
        ("three", slice(24, 29)),
    ],
)
def test_an_entry_is_removed_with_the_comment_right_above_it_only(name: str, gone: slice) -> None:
    lines = TEXT.splitlines(keepends=True)
    del lines[gone]
    assert without_entry(TEXT, name, where="c") == "".join(lines)


def test_a_comment_at_the_head_of_the_file_is_about_the_file() -> None:
    text = TEXT.replace("# Our models.\n\n", "# Our models.\n")
    assert without_entry(text, "one", where="c").startswith("# Our models.\n# not sure")


def test_an_entry_that_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(NotFoundError) as caught:
        without_entry(TEXT, "tree", where="c")
    assert str(caught.value) == 'c: no model "tree" in this catalog; did you mean "three"?'


def test_line_ends_stay_as_they_are() -> None:
    text = TEXT.replace("\n", "\r\n")
    changed = with_entry(text, ENTRY, where="c")
    assert changed.startswith(text)
    assert changed.count("\n") == changed.count("\r\n")
    assert names(without_entry(changed, "two", where="c")) == ["one", "three", "four"]


@pytest.mark.parametrize("text", ["", "# only a comment", "# only a comment\n"])
def test_the_first_entry_of_a_file_can_be_added(text: str) -> None:
    assert names(with_entry(text, ENTRY, where="c")) == ["four"]


@pytest.mark.parametrize(
    "edit", [lambda text: with_entry(text, ENTRY, where="c"), lambda text: without_entry(text, "one", where="c")]
)
def test_a_catalog_that_is_not_written_in_tables_is_left_alone(edit: Callable[[str], str]) -> None:
    text = '\nmodels = [{name="one", repo="a/b", filename="m", preprocessing_preset="raw"}, \n'
    text += '{name="two", repo="a/b", filename="m", preprocessing_preset="raw"}]\n'
    with pytest.raises(ConfigError) as caught:
        edit(text)
    assert str(caught.value) == "c:2: models is not written as [[models]] tables, so mecha does not change it"
    assert caught.value.hint == "Change the file by hand, or write each model as a [[models]] table."


def test_every_entry_of_the_packaged_catalog_can_be_taken_out_and_put_back() -> None:
    text = (bundled_dir() / "model_catalog.toml").read_text()
    entries = parse_catalog(text, where="c")
    for entry in entries:
        without = without_entry(text, entry.name, where="c")
        again = with_entry(without, entry, where="c")
        assert set(names(again)) == set(names(text))
        head = text.split("[[models]]", maxsplit=1)[0]
        assert again.startswith(head)


def test_a_catalog_file_is_made_changed_and_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "folder/model_catalog.toml"
    add_entry(file, ENTRY)
    file.chmod(0o640)
    link = tmp_path / "model_catalog.toml"
    link.symlink_to(file)
    add_entry(link, ENTRY.model_copy(update={"name": "five"}))
    assert link.is_symlink()
    assert names(file.read_text()) == ["four", "five"]
    assert file.stat().st_mode & 0o777 == 0o640
    remove_entry(link, "four")
    assert names(file.read_text()) == ["five"]
    assert [entry.name for entry in file.parent.iterdir()] == ["model_catalog.toml"]


def test_removing_from_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        remove_entry(tmp_path / "model_catalog.toml", "x")
    assert str(caught.value) == f"{tmp_path / 'model_catalog.toml'}: no such file"
