"""Files and folders appear whole; what the disk refuses is said in figures."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mecha.errors import DiskError, NoSpaceError
from mecha.store.atomic import (
    RESERVE_BYTES,
    current_dir,
    discard,
    disk_error,
    make_dir,
    replace_dir,
    require_space,
    sweep,
    unfinished_path,
    write_file,
)
from mecha.store.exchange import exchange, no_exchange
from mecha.store.faults import disk_of, free_bytes
from mecha.words import size_words
from tests.store.example import environment


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    write_file(file, b"old")
    write_file(file, b"new", 0o600)
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == (0o600 if os.name == "posix" else 0o666)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as caught:
        write_file(tmp_path / "absent/config.json", b"new")
    assert str(caught.value) == f"{tmp_path / 'absent/config.json'}: cannot write: no such file or directory"
    (tmp_path / "folder/inner").mkdir(parents=True)
    with pytest.raises(DiskError):
        write_file(tmp_path / "folder", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("swap", [exchange, no_exchange])
def test_a_folder_takes_the_place_of_another_or_of_none(tmp_path: Path, swap: Callable[[Path, Path], bool]) -> None:
    final = tmp_path / "m"
    for text in ("one", "two", "three"):
        staged = unfinished_path(final, "staging")
        staged.mkdir()
        (staged / text).write_text(text)
        replace_dir(staged, final, swap=swap)
        assert [entry.name for entry in final.iterdir()] == [text]
        assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
    assert current_dir(final) == final


@pytest.mark.parametrize("swap", [exchange, no_exchange])
def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, swap: Callable[[Path, Path], bool]
) -> None:
    final = tmp_path / "m"
    final.mkdir()
    with pytest.raises(DiskError) as caught:
        replace_dir(tmp_path / "absent", final, swap=swap)
    assert str(caught.value) == f"{final}: cannot put the new folder in place: no such file or directory"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("swap", [exchange, no_exchange])
def test_a_folder_is_put_in_place_when_another_process_removes_the_old_one_at_that_moment(
    tmp_path: Path, swap: Callable[[Path, Path], bool]
) -> None:
    final = tmp_path / "m"
    staged = unfinished_path(final, "staging")
    for folder in (final, staged):
        folder.mkdir()
        (folder / "from").write_text(folder.name)

    def swap_late(first: Path, second: Path) -> bool:
        discard(final)
        return swap(first, second)

    replace_dir(staged, final, swap=swap_late)
    assert (final / "from").read_text() == staged.name
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no such call")
def test_two_names_are_exchanged_in_one_step(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "a").write_text("")
    second.mkdir()
    if not exchange(first, second):
        pytest.skip("the file system cannot")
    assert [entry.name for entry in second.iterdir()] == ["a"]
    assert not exchange(first, tmp_path / "absent")


def test_what_is_removed_disappears_at_once_and_its_leftovers_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    (folder / "inner").mkdir(parents=True)
    discard(folder)
    discard(folder)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".m.4194399-7-3.removed").mkdir()
    assert [path.name for path in sweep(tmp_path)] == [".m.4194399-7-3.removed"]
    assert sweep(tmp_path / "absent") == ()


def test_only_our_own_unfinished_names_are_swept(tmp_path: Path) -> None:
    kept = [".m.previous", ".m.lock", "m", ".4194399-7-3.staging", ".m.4194399.staging", "m.4194399-7-3.tmp"]
    for name in kept:
        (tmp_path / name).mkdir()
    unfinished = unfinished_path(tmp_path / "m", "tmp")
    unfinished.write_text("")
    assert sweep(tmp_path) == ()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*kept, unfinished.name])


@pytest.mark.parametrize(
    ("number", "sentence", "hint"),
    [
        (
            errno.ENOSPC,
            "{path}: cannot write: no space left: {free} free on {disk}, 5.0 MB needed",
            "Free some space, or use another disk: models are in the project, downloads in MECHA_CACHE_DIR.",
        ),
        (
            errno.EDQUOT,
            "{path}: cannot write: quota used up: {free} free on {disk}, 5.0 MB needed",
            "Free some space, or use another disk: models are in the project, downloads in MECHA_CACHE_DIR.",
        ),
        (
            errno.EACCES,
            "{path}: cannot write: permission denied",
            "Make {folder} writable for this user, or work in another folder.",
        ),
        (
            errno.EROFS,
            "{path}: cannot write: the file system is read-only",
            "Mount it writable, or work in a folder on another disk.",
        ),
        (errno.EIO, "{path}: cannot write: input/output error", ""),
    ],
)
def test_what_the_system_refuses_is_told_with_path_reason_and_remedy(
    tmp_path: Path, number: int, sentence: str, hint: str
) -> None:
    path = tmp_path / "absent/model.onnx"
    error = disk_error(OSError(number, os.strerror(number)), path, "write", needed_bytes=5_000_000)
    shown = sentence.format(path=path, free="FREE", disk=disk_of(tmp_path))
    start, _, rest = shown.partition("FREE")
    assert str(error).startswith(start)
    assert str(error).endswith(rest)
    assert error.hint == hint.format(folder=tmp_path)


def test_what_will_not_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    huge = 10**18
    with pytest.raises(DiskError) as caught:
        require_space(tmp_path / "absent", huge, what="model.onnx")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'absent'}: model.onnx needs 1000000000.0 GB and 64.0 MB stay free; got ")
    assert message.endswith(f" free on {disk_of(tmp_path)}")
    assert "more are needed. Free some space, or use another disk" in caught.value.hint


def test_what_is_already_there_needs_no_space(tmp_path: Path) -> None:
    require_space(tmp_path, 10**18, what="model.onnx", present_bytes=10**18)
    require_space(tmp_path, 0, what="nothing")
    with pytest.raises(DiskError) as caught:
        require_space(tmp_path, 10**18, what="model.onnx", present_bytes=10**6)
    assert "needs 1000000000.0 GB (1.0 MB of it are there) and" in str(caught.value)


def test_what_int8_takes_besides_is_counted_and_said(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError) as caught:
        require_space(tmp_path, 10**18, what="model.onnx", int8_bytes=8 * 10**17)
    assert "needs 1000000000.0 GB, INT8 and staging 800000000.0 GB and 64.0 MB stay free" in str(caught.value)


def test_a_reserve_stays_free(tmp_path: Path) -> None:
    free = free_bytes(tmp_path)
    with pytest.raises(DiskError):
        require_space(tmp_path, free - RESERVE_BYTES // 2, what="model.onnx")


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (640_400, "640.4 kB"), (999_950, "1.0 MB"),
        (12_823_451, "12.8 MB"), (1_200_000_000, "1.2 GB"),
    ],
)  # fmt: skip
def test_a_size_is_written_as_people_do(size_bytes: int, words: str) -> None:
    assert size_words(size_bytes) == words


def run(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """Run a program that prints what it met, and return that."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> tuple[str, ...]:
    """The start of a command that runs with a file system of 4 MB on the folder `disk`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = ("unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=4m none "{disk}" && exec "$@"', "sh")
    if shutil.which("unshare") is None:
        pytest.skip("no file system can be mounted here")
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    return prefix


FILL_THE_DISK = """
import sys
from pathlib import Path
from tests.store.example import content, publish
from mecha.errors import DiskError
from mecha.store.blobs import BlobCache
from mecha.store.models import ModelStore
from mecha.store.published import MODEL_FILE
from mecha.store.atomic import require_space, write_file
disk = Path(sys.argv[1])
store = ModelStore(disk / "models")
publish(store, "m", "v1", size_bytes=2_500_000)
for act in (
    lambda: write_file(disk / "file", bytes(3_000_000)),
    lambda: require_space(disk, 3_000_000, what="model.onnx"),
):
    try:
        act()
    except DiskError as error:
        print(error, error.hint, sep="|")
print([entry.name for entry in disk.iterdir()])
print(store.verify("m"), store.read("m", MODEL_FILE) == content("v1", 2_500_000))
"""


def test_a_full_disk_is_told_in_figures_and_loses_nothing(tmp_path: Path, small_disk: tuple[str, ...]) -> None:
    written, required, names, whole = run(FILL_THE_DISK, str(tmp_path / "disk"), prefix=small_disk).splitlines()
    message, hint = written.split("|")
    assert message.startswith(f"{tmp_path / 'disk/file'}: cannot write: no space left: ")
    assert message.endswith(f" free on {tmp_path / 'disk'}, 3.0 MB needed")
    assert hint == "Free some space, or use another disk: models are in the project, downloads in MECHA_CACHE_DIR."
    disk = tmp_path / "disk"
    assert required.startswith(f"{disk}: model.onnx needs 3.0 MB and 64.0 MB stay free; got 1.7 MB free on {disk}|")
    assert (names, whole) == ("['models']", "() True")


READ_ONLY_DISK = """
import subprocess, sys
from pathlib import Path
from tests.store.example import publish
from mecha.errors import DiskError
from mecha.store.models import ModelStore
from mecha.store.locks import exclusive
disk = Path(sys.argv[1])
store = ModelStore(disk / "models")
publish(store, "m", "v1")
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
def lock():
    with exclusive(store.lock_file("m"), timeout_s=0):
        pass
for act in (lambda: publish(store, "m", "v2"), lambda: store.remove("m"), lock):
    try:
        act()
    except DiskError as error:
        print(error, error.hint, sep="|")
print(store.published("m").spec.source.revision)
"""


def test_a_read_only_disk_is_told_and_its_models_stay_usable(tmp_path: Path, small_disk: tuple[str, ...]) -> None:
    *refused, version = run(READ_ONLY_DISK, str(tmp_path / "disk"), prefix=small_disk).splitlines()
    reason = "the file system is read-only|Mount it writable, or work in a folder on another disk."
    assert len(refused) == 3
    assert refused[0].startswith(f"{tmp_path / 'disk/models'}/.m.")
    assert refused[0].endswith(f".staging: cannot make the folder: {reason}")
    assert refused[1] == f"{tmp_path / 'disk/models/m'}: cannot remove: {reason}"
    assert refused[2] == f"{tmp_path / 'disk/models/.m.lock'}: cannot lock: {reason}"
    assert version == "v1"


SECRET_MODEL = """
import os, sys
from pathlib import Path
from mecha.errors import DiskError
from mecha.store.models import ModelStore
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
models = Path(sys.argv[1])
print(*ModelStore(models).all())
try:
    ModelStore(models / "secret").all()
except DiskError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are others here")
def test_a_model_that_cannot_be_read_is_broken_and_a_folder_that_cannot_be_listed_is_told(locked_folder: Path) -> None:
    locked_folder.chmod(0o755)
    secret = locked_folder / "secret"
    secret.mkdir(mode=0o000)
    first, second = run(SECRET_MODEL, str(locked_folder)).splitlines()
    secret.chmod(0o755)
    assert first == "BrokenModel(name='secret', reason='manifest.json: permission denied', newer=False)"
    assert second == f"{secret}: cannot list the models: permission denied"


FOREIGN_FOLDER = """
import os, sys
from pathlib import Path
from tests.store.example import publish
from mecha.errors import DiskError
from mecha.store.models import ModelStore
from mecha.store.locks import exclusive
import filelock
models = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = ModelStore(models)
def lock():
    with exclusive(store.lock_file("m"), timeout_s=0):
        pass
for act in (lambda: publish(store, "m", "v1"), lock, lambda: publish(ModelStore(models / "deeper"), "m", "v1")):
    try:
        act()
    except DiskError as error:
        print(error, error.hint, sep="|")
"""


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that a user who is not root can read only."""
    outer = Path(tempfile.mkdtemp())
    outer.chmod(0o755)
    folder = outer / "models"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(outer)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are others here")
def test_a_models_folder_that_cannot_be_written_is_told_with_the_remedy(locked_folder: Path) -> None:
    published, locked, deeper = run(FOREIGN_FOLDER, str(locked_folder)).splitlines()
    remedy = f"permission denied|Make {locked_folder} writable for this user, or work in another folder."
    assert published.startswith(f"{locked_folder}/.m.")
    assert published.endswith(f".staging: cannot make the folder: {remedy}")
    assert locked == f"{locked_folder / '.m.lock'}: cannot lock: {remedy}"
    assert deeper.endswith(f"cannot make the folder: {remedy}")


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    make_dir(tmp_path / "a/b")
    make_dir(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
