"""Two mounts of one disk: no hard link leads from one into the other."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mecha.store.faults import on_one_disk

LOOK = """
import sys
from pathlib import Path
from mecha.store.blobs import link_or_copy
from mecha.store.faults import on_one_disk
first, second = Path(sys.argv[1]), Path(sys.argv[2])
link_or_copy(first / "model", second / "model", may_link=True)
print(on_one_disk(first, second / "to be made"), first.stat().st_dev == second.stat().st_dev,
      (second / "model").samefile(first / "model"), (second / "model").read_text())
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "cache", tmp_path / "project"
    for folder in (first, second):
        folder.mkdir()
    (first / "model").write_text("bytes")
    return first, second


def looked(folders: tuple[Path, Path], *prefix: str) -> "subprocess.CompletedProcess[str]":
    command = [*prefix, sys.executable, "-c", LOOK, *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_folders_of_one_mount_are_on_one_disk(folders: tuple[Path, Path]) -> None:
    assert on_one_disk(*folders)
    assert looked(folders).stdout.split() == ["True", "True", "True", "bytes"]


def test_a_folder_that_is_mounted_onto_itself_takes_copies(folders: tuple[Path, Path]) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    bound = ("unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$1" && shift && exec "$@"', "sh", str(folders[1]))
    done = looked(folders, *bound)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this user may not mount")
    assert done.stdout.split() == ["False", "True", "False", "bytes"]
