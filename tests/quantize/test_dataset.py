"""List files and dataset files: what they name, and what is wrong with them."""

from pathlib import Path

import pytest

from mecha.errors import ConfigError, NotFoundError, QuantizationError
from mecha.quantize.dataset import dataset_photos
from mecha.quantize.listing import Listing, listed_photos


def touched(root: Path, *names: str) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo")
    return paths


def dataset(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "coco8.yaml"
    file.write_text(text)
    return file


def taken(file: Path, project: Path) -> tuple[str, list[str]]:
    photos = dataset_photos(file, project)
    return photos.split, [str(path) for path in photos.listing.paths]


def test_a_list_names_photos_beside_itself(tmp_path: Path) -> None:
    one, two = touched(tmp_path / "photos", "a.png", "b.png")
    listing = tmp_path / "photos" / "list.txt"
    listing.write_text(f"# which\na.png\n\n  {two}\n./b.png\n")
    assert listed_photos(listing) == Listing((one, two, two), 3)


def test_missing_photos_of_a_list_are_skipped_and_counted(tmp_path: Path) -> None:
    one, _ = touched(tmp_path, "a.png", "b.png")
    listing = tmp_path / "list.txt"
    listing.write_text("# which\na.png\ngone.png\n")
    found = listed_photos(listing)
    assert (found.paths, found.named, found.missing) == ((one,), 2, 1)
    assert found.first_missing == f"{listing}:3: gone.png"


def test_a_line_that_is_longer_than_a_path_may_be_names_a_photo_that_is_not_there(tmp_path: Path) -> None:
    one, _ = touched(tmp_path, "a.png", "b.png")
    listing = tmp_path / "list.txt"
    listing.write_text(f"a.png\n{'[' * 5000}\n")
    assert (listed_photos(listing).paths, listed_photos(listing).missing) == ((one,), 1)


def test_a_list_of_which_more_than_half_is_missing_is_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a.png")
    listing = tmp_path / "list.txt"
    listing.write_text("gone/1.png\na.png\ngone/2.png\n")
    with pytest.raises(QuantizationError) as refusal:
        listed_photos(listing)
    assert str(refusal.value) == (
        f"{listing}: got 2 of 3 photos that are not there, the first at {listing}:1: gone/1.png; expected at most half"
    )
    assert refusal.value.hint == "Paths are relative to the folder of the list that names them."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n# nothing\n", "got no line that names a photo; expected one path a line"),
        (b"\xff\xfe\xff", "got bytes that are no text; expected one path of a photo a line"),
    ],
)
def test_a_list_that_names_nothing_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    listing = tmp_path / "list.txt"
    listing.write_bytes(data)
    with pytest.raises(QuantizationError) as refusal:
        listed_photos(listing)
    assert str(refusal.value) == f"{listing}: {message}"


def test_a_list_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as refusal:
        listed_photos(tmp_path / "list.txt")
    assert str(refusal.value) == f"{tmp_path / 'list.txt'}: no such file; expected a list of photos"


@pytest.mark.parametrize("path", ["", "path: ../data\n", "path: sets/data\n", "path: {root}/data\n"])
def test_a_part_is_relative_to_path_and_path_to_the_file_or_the_project(tmp_path: Path, path: str) -> None:
    root = tmp_path / {"": "yamls", "path: sets/data\n": "project/sets/data"}.get(path, "data")
    touched(root, "images/train/a.jpg")
    file = dataset(
        tmp_path / "yamls", path.format(root=tmp_path) + "train: images/train\nval: images/val\nnames: {0: a}"
    )
    split, paths = taken(file, tmp_path / "project")
    assert (split, [Path(found).resolve() for found in paths]) == ("train", [root / "images/train"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: images/train\nval: images/val\ntest: images/test\n", ("train", ["images/train"])),
        ("train:\nval: images/val\ntest: images/test\n", ("val", ["images/val"])),
        ("test: images/test\n", ("test", ["images/test"])),
        ("train: [images/train, images/val]\n", ("train", ["images/train", "images/val"])),
        ("train: images/train/a.jpg\n", ("train", ["images/train/a.jpg"])),
        ("train: train.txt\n", ("train", ["images/train/a.jpg", "images/val/b.jpg"])),
        ("train: lists/deep.txt\n", ("train", ["images/val/b.jpg"])),
        ("train: [images/test, train.txt]\n", ("train", ["images/test", "images/train/a.jpg", "images/val/b.jpg"])),
        ("train: ../images/train\n", ("train", ["images/train"])),
    ],
)
def test_a_part_is_a_folder_a_photo_a_list_or_a_text_file(
    tmp_path: Path, text: str, expected: tuple[str, list[str]]
) -> None:
    folder = tmp_path / "coco8"
    touched(folder, "images/train/a.jpg", "images/val/b.jpg", "images/test/c.jpg", "lists/deep.txt")
    (folder / "train.txt").write_text("./images/train/a.jpg\nimages/val/b.jpg\n")
    (folder / "lists" / "deep.txt").write_text("images/val/b.jpg\n")
    split, paths = taken(dataset(folder, text), tmp_path)
    assert (split, paths) == (expected[0], [str(folder / name) for name in expected[1]])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "{file}: got an empty file; expected keys with values: path, train, val", "See docs/catalog.md."),
        ("- a\n- b\n", "{file}: got a sequence; expected keys with values: path, train, val", "See docs/catalog.md."),
        ("just words\n", "{file}: got a scalar; expected keys with values: path, train, val", "See docs/catalog.md."),
        ("train: [images\n", "{file}:2:1: not YAML: expected ',' or ']', but got '<stream end>'", ""),
        ("a: 1\n\tb: 2\n", "{file}:2:1: not YAML: found character '\\t' that cannot start any token", ""),
        ("a: \x00\n", "{file}: not YAML: unacceptable character #x0000: special characters are not allowed", ""),
        (
            "names: {0: person}\n",
            "{file}: got no train, val or test; expected one of them, the photos of the dataset",
            "Name a folder of photos by itself where there is no dataset.",
        ),
        (
            "path: 7\ntrain: {a: b}\n",
            "{file}:1: path: got 7; expected a folder\n"
            "{file}:2: train: got a table of keys; expected a folder of photos, a photo, a text file of paths, or a "
            "list of those",
            "",
        ),
        (
            "# COCO8\npath: ../datasets/coco8\ntrain: images/train\ndownload: https://example.com/coco8.zip\n",
            '{file}:2: path: got "../datasets/coco8"; expected the folder of the dataset: neither '
            "{folder}/../datasets/coco8 nor {project}/../datasets/coco8 is a folder",
            "`download` in a dataset file is never run: bring the photos there yourself, or correct the path.",
        ),
        (
            "path: /nowhere/coco8\ntrain: images/train\n",
            '{file}:1: path: got "/nowhere/coco8"; expected the folder of the dataset: /nowhere/coco8 is no folder',
            "Bring the photos there, or correct the path.",
        ),
        (
            "train:\n  - images/train\n  - images/more\nval: images/val\n",
            '{file}:2: train[0]: got "images/train"; expected a folder, a photo or a text file of paths: '
            "{folder}/images/train is not there\n"
            '{file}:3: train[1]: got "images/more"; expected a folder, a photo or a text file of paths: '
            "{folder}/images/more is not there",
            "Bring the photos there, or correct the path.",
        ),
    ],
)
def test_what_is_wrong_with_a_dataset_file_is_said_with_its_line(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    file = dataset(tmp_path / "yamls", text)
    with pytest.raises(ConfigError) as refusal:
        dataset_photos(file, tmp_path / "project")
    assert str(refusal.value) == message.format(file=file, folder=file.parent, project=tmp_path / "project")
    assert refusal.value.hint == hint


def test_thousands_of_nested_brackets_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not YAML"):
        dataset_photos(dataset(tmp_path, "train: " + "[" * 5000), tmp_path)


def test_a_dataset_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as refusal:
        dataset_photos(tmp_path / "coco8.yaml", tmp_path)
    assert str(refusal.value) == f"{tmp_path / 'coco8.yaml'}: no such file; expected a dataset file of Ultralytics"
    assert refusal.value.hint == "Its name ends in .yaml or .yml."
