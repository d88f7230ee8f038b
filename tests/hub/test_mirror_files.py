import hashlib
import os
from pathlib import Path

import pytest

from mecha.hub.mirror_files import ServedFolder
from tests.hub.asked_mirror import write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    write(root / "owner/name/model.onnx", b"model")
    write(root / "owner/name/sub/labels.txt", b"cat\n")
    write(root / "datasets/owner/photos/1.jpg", b"jpg")
    return root


def paths(root: Path, repo: str = "owner/name") -> list[str]:
    snapshot = ServedFolder(root).snapshot("model", repo)
    assert snapshot is not None
    return [file.path for file in snapshot.files]


def commit(folder: ServedFolder) -> str:
    snapshot = folder.snapshot("model", "owner/name")
    assert snapshot is not None
    return snapshot.commit


def test_a_folder_of_folders_is_a_set_of_repos(root: Path) -> None:
    assert ServedFolder(root).repos() == (("model", "owner/name"), ("dataset", "owner/photos"))


def test_a_folder_that_holds_nothing_has_no_repos(tmp_path: Path) -> None:
    assert ServedFolder(tmp_path).repos() == ()


def test_all_files_are_served_with_their_digests(root: Path) -> None:
    snapshot = ServedFolder(root).snapshot("model", "owner/name")

    assert snapshot is not None
    assert [(file.path, file.size_bytes, file.sha256) for file in snapshot.files] == [
        ("model.onnx", 5, hashlib.sha256(b"model").hexdigest()),
        ("sub/labels.txt", 4, hashlib.sha256(b"cat\n").hexdigest()),
    ]


@pytest.mark.parametrize(
    "repo", ["", "owner", "owner/", "/name", "owner/other", "owner/name/sub", "../served/owner", "owner/..", "./owner"]
)
def test_what_is_no_repo_is_not_found(repo: str, root: Path) -> None:
    assert ServedFolder(root).snapshot("model", repo) is None


def test_datasets_are_not_served_as_models_of_an_owner_called_datasets(root: Path) -> None:
    assert ServedFolder(root).snapshot("model", "datasets/owner") is None


def test_dotfiles_are_not_served(root: Path) -> None:
    write(root / "owner/name/.env", b"secret")
    write(root / "owner/name/.git/config", b"secret")
    write(root / ".hidden/name/model.onnx", b"secret")

    assert paths(root) == ["model.onnx", "sub/labels.txt"]
    assert ServedFolder(root).snapshot("model", ".hidden/name") is None


def test_links_inside_the_folder_are_served_and_links_out_of_it_are_not(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "secret.txt", b"secret")
    write(root / "owner/name/.store/blob", b"secret")
    (root / "owner/name/inside.onnx").symlink_to("model.onnx")
    (root / "owner/name/outside.txt").symlink_to(tmp_path / "secret.txt")
    (root / "owner/name/hidden.txt").symlink_to(".store/blob")
    (root / "owner/name/dangling.txt").symlink_to("nowhere")
    (root / "owner/name/loop").symlink_to(".")
    (root / "owner/linked").symlink_to(tmp_path)

    assert paths(root) == ["inside.onnx", "model.onnx", "sub/labels.txt"]
    assert ServedFolder(root).snapshot("model", "owner/linked") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_what_is_no_file_is_not_served(root: Path) -> None:
    os.mkfifo(root / "owner/name/pipe")

    assert paths(root) == ["model.onnx", "sub/labels.txt"]


def test_the_commit_follows_from_paths_and_contents_alone(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    write(copy / "owner/name/sub/labels.txt", b"cat\n")
    write(copy / "owner/name/model.onnx", b"model")

    assert commit(ServedFolder(root)) == commit(ServedFolder(copy))
    assert len(commit(ServedFolder(root))) == 40


@pytest.mark.parametrize(
    "change",
    [
        lambda repo: (repo / "model.onnx").write_bytes(b"MODEL"),
        lambda repo: (repo / "model.onnx").rename(repo / "other.onnx"),
        lambda repo: (repo / "model.onnx").unlink(),
        lambda repo: (repo / "new.txt").write_bytes(b""),
    ],
    ids=["a content of the same length", "a name", "a file gone", "a file more"],
)
def test_every_change_makes_another_commit(change: object, root: Path) -> None:
    folder = ServedFolder(root)
    before = commit(folder)
    assert callable(change)
    change(root / "owner/name")

    assert commit(folder) != before


def test_a_rewritten_file_is_hashed_again_even_with_its_old_time(root: Path) -> None:
    folder = ServedFolder(root)
    before = commit(folder)
    model = root / "owner/name/model.onnx"
    times = model.stat().st_atime_ns, model.stat().st_mtime_ns
    model.write_bytes(b"MODEL")
    os.utime(model, ns=times)

    assert commit(folder) != before


def test_a_file_that_was_replaced_after_it_was_hashed_is_not_opened(root: Path) -> None:
    snapshot = ServedFolder(root).snapshot("model", "owner/name")
    assert snapshot is not None
    file = snapshot.find("model.onnx")
    assert file is not None
    file.location.write_bytes(b"longer than before")

    assert file.open() is None
    file.location.unlink()
    assert file.open() is None


def record(repo: Path, path: str, commit: str, etag: str) -> None:
    """Leave the note that the Hub's client leaves beside a file it downloads into a folder."""
    write(repo / f".cache/huggingface/download/{path}.metadata", f"{commit}\n{etag}\n1750000000.5\n".encode())


@pytest.fixture
def copy_of_commit(root: Path) -> Path:
    git = hashlib.sha1(b"blob 4\0cat\n", usedforsecurity=False).hexdigest()
    record(root / "owner/name", "model.onnx", "a" * 40, hashlib.sha256(b"model").hexdigest())
    record(root / "owner/name", "sub/labels.txt", "a" * 40, git)
    return root


def test_a_copy_of_a_commit_of_the_hub_goes_by_its_name(copy_of_commit: Path) -> None:
    assert commit(ServedFolder(copy_of_commit)) == "a" * 40


@pytest.mark.parametrize(
    "change",
    [
        lambda repo: (repo / "model.onnx").write_bytes(b"MODEL"),
        lambda repo: (repo / "mine.txt").write_bytes(b"mine"),
        lambda repo: record(repo, "model.onnx", "b" * 40, hashlib.sha256(b"model").hexdigest()),
        lambda repo: record(repo, "model.onnx", "no commit", hashlib.sha256(b"model").hexdigest()),
        lambda repo: write(repo / ".cache/huggingface/download/model.onnx.metadata", b"\xff\xfe"),
    ],
    ids=["another content", "a file of one's own", "files of two commits", "no commit", "no text"],
)
def test_what_is_no_exact_copy_goes_by_a_name_of_its_own(change: object, copy_of_commit: Path) -> None:
    assert callable(change)
    change(copy_of_commit / "owner/name")

    assert commit(ServedFolder(copy_of_commit)) not in {"a" * 40, "b" * 40}
