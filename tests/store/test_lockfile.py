"""mecha.lock: what a moving revision meant."""

import subprocess
import sys
from pathlib import Path

import pytest

from mecha.errors import ConfigError
from mecha.store.lockfile import DeferredLock, FrozenLock, LockedFile, LockFile

ITEM = LockedFile(
    repo="a/b", filename="m.onnx", requested="main", revision="c" * 40, etag="e", sha256="0" * 64, size_bytes=7
)


def test_a_missing_file_locks_nothing(tmp_path: Path) -> None:
    assert LockFile(tmp_path / "mecha.lock", tmp_path / "guard").entries() == ()


def test_what_is_put_is_found_again_and_written_once(tmp_path: Path) -> None:
    file = tmp_path / "mecha.lock"
    lock = LockFile(file, tmp_path / "guard")
    lock.put(ITEM)
    state = file.stat().st_mtime_ns
    lock.put(ITEM)
    assert file.stat().st_mtime_ns == state
    assert lock.find("a/b", "m.onnx", requested="main") == ITEM
    assert lock.find("a/b", "m.onnx", requested="v1") is None


def test_an_entry_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "mecha.lock", tmp_path / "guard")
    other = ITEM.model_copy(update={"filename": "n.onnx"})
    newer = ITEM.model_copy(update={"sha256": "1" * 64})
    for item in (ITEM, other, newer):
        lock.put(item)
    assert lock.entries() == (newer, other)


def test_an_entry_that_is_dropped_leaves_the_others_and_the_last_one_takes_the_file_with_it(tmp_path: Path) -> None:
    file = tmp_path / "mecha.lock"
    lock = LockFile(file, tmp_path / "guard")
    other = ITEM.model_copy(update={"filename": "n.onnx"})
    for item in (ITEM, other):
        lock.put(item)
    lock.drop({ITEM.identity})
    assert lock.entries() == (other,)
    lock.drop({other.identity, ITEM.identity})
    assert not file.exists()
    lock.drop({other.identity})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("files = 3 3", "mecha.lock:1: not TOML: "),
        ('[[files]]\nrepo = "a/b"\n', "mecha.lock: files.filename: Field required"),
    ],
    ids=["no TOML", "a key is missing"],
)
def test_a_broken_file_is_said_with_what_to_do(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mecha.lock"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        LockFile(file, tmp_path / "guard").entries()
    assert str(caught.value).startswith(message)
    assert caught.value.hint == "restore it from version control, or delete it and pull again"


def test_processes_that_write_at_once_lose_no_entry(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mecha.store.lockfile import LockedFile, LockFile\n"
        f"lock = LockFile(Path({str(tmp_path / 'mecha.lock')!r}), Path({str(tmp_path / 'guard')!r}))\n"
        "for index in range(10):\n"
        "    lock.put(LockedFile(repo='a/b', filename=f'{sys.argv[1]}-{index}', requested='main', revision='c',\n"
        "                        etag='e', sha256='0' * 64, size_bytes=1))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(number)]) for number in range(4)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0, 0]
    assert len(LockFile(tmp_path / "mecha.lock", tmp_path / "guard").entries()) == 40


OLD = f"""# Written by an earlier version
[[files]]
repo = "a/b"
repo_type = "model"
filename = "m.onnx"
requested = "main"
revision = "{"c" * 40}"
etag = "e"
sha256 = "{"0" * 64}"
size_bytes = 7
"""


def test_a_lock_file_of_an_earlier_version_is_read_and_one_of_a_later_refused(tmp_path: Path) -> None:
    file = tmp_path / "mecha.lock"
    file.write_text(OLD)
    assert LockFile(file, tmp_path / "guard").entries() == (ITEM,)
    file.write_text(f"version = 2\n{OLD}")
    with pytest.raises(ConfigError) as caught:
        LockFile(file, tmp_path / "guard").entries()
    assert str(caught.value) == "mecha.lock: version: got 2; expected 1"
    assert caught.value.hint == "A newer mecha wrote it: install that one here, or write the file with this one."


def test_the_order_of_entries_is_that_of_their_names_however_they_came(tmp_path: Path) -> None:
    items = [ITEM.model_copy(update={"filename": name}) for name in ("c", "a", "b")]
    texts = set()
    for number, order in enumerate((items, items[::-1])):
        lock = LockFile(tmp_path / f"{number}.lock", tmp_path / "guard")
        for item in order:
            lock.put(item)
        texts.add((tmp_path / f"{number}.lock").read_bytes())
    assert len(texts) == 1
    assert [entry.filename for entry in lock.entries()] == ["a", "b", "c"]


def test_a_deferred_lock_finds_what_was_put_and_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mecha.lock"
    LockFile(file, tmp_path / "guard").put(ITEM)
    before = file.read_bytes()
    pinned = ITEM.model_copy(update={"filename": "pinned.onnx"})
    newer = ITEM.model_copy(update={"sha256": "1" * 64})
    lock = DeferredLock(file, tmp_path / "guard", (pinned,))
    assert lock.find("a/b", "m.onnx", requested="main") == ITEM
    assert lock.find("a/b", "pinned.onnx", requested="main") == pinned
    lock.put(newer)
    assert lock.find("a/b", "m.onnx", requested="main") == newer
    assert lock.used == (newer,)
    assert file.read_bytes() == before


def test_a_frozen_lock_takes_what_it_names_and_refuses_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "mecha.lock"
    LockFile(file, tmp_path / "guard").put(ITEM)
    before = file.read_bytes()
    lock = FrozenLock(file, tmp_path / "guard")
    lock.put(ITEM.model_copy(update={"revision": "d" * 40}))
    with pytest.raises(ConfigError) as caught:
        lock.put(ITEM.model_copy(update={"sha256": "1" * 64}))
    assert str(caught.value) == (
        f"mecha.lock: got sha256 {'0' * 64} for a/b/m.onnx at main; expected sha256 {'1' * 64}: "
        "it is frozen, and was not changed"
    )
    lock.drop({ITEM.identity})
    assert file.read_bytes() == before
