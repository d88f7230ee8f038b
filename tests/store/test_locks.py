"""One writer at a time: who waits, for whom, and what becomes of a lock whose holder was killed."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mecha.errors import BusyError, DiskError
from mecha.store.locks import exclusive, holder
from mecha.store.process import NOT_TOLD, ProcessId, _started_by_proc, _started_by_psutil
from tests.store.example import environment

HOLD = """
import sys
import time
from pathlib import Path
from mecha.store.locks import exclusive
with exclusive(Path(sys.argv[1]), timeout_s=0):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "models/.m.lock"


@pytest.fixture
def other(lock: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock until it reads a line or is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_holds_a_lock_is_noted_while_it_is_held(lock: Path) -> None:
    with exclusive(lock, timeout_s=0):
        assert holder(lock) == ProcessId.current()
    assert holder(lock) is None
    with exclusive(lock, timeout_s=0):
        assert lock.is_file()


def test_a_held_lock_is_refused_with_the_pid_of_its_holder(lock: Path, other: "subprocess.Popen[str]") -> None:
    with pytest.raises(BusyError) as caught, exclusive(lock, timeout_s=0):
        pass
    assert str(caught.value) == f"{lock}: held by process {other.pid}"
    assert caught.value.hint == f"Wait until process {other.pid} is done, or stop it, and try again."
    with pytest.raises(BusyError) as later, exclusive(lock, timeout_s=0.2):
        pass
    assert str(later.value) == f"{lock}: held by process {other.pid} after 0.2 s"


def test_a_holder_that_is_not_known_is_called_another_process(lock: Path, other: "subprocess.Popen[str]") -> None:
    lock.with_name(".m.lock.holder").write_text("nonsense")
    with pytest.raises(BusyError) as caught, exclusive(lock, timeout_s=0):
        pass
    assert str(caught.value) == f"{lock}: held by another process"
    assert caught.value.hint == "Wait until it is done, or stop it, and try again."


def test_waiting_is_announced_once_and_ends_when_the_holder_is_done(lock: Path, other: "subprocess.Popen[str]") -> None:
    waits: list[int] = []

    def release() -> None:
        assert other.stdin is not None
        waits.append(other.pid)
        other.stdin.write("\n")
        other.stdin.flush()

    with exclusive(lock, timeout_s=60, on_wait=release):
        assert waits == [other.pid]
        assert holder(lock) == ProcessId.current()


def test_the_lock_of_a_killed_process_is_free(lock: Path, other: "subprocess.Popen[str]") -> None:
    other.kill()
    other.wait()
    assert holder(lock) is None
    with exclusive(lock, timeout_s=60):
        assert holder(lock) == ProcessId.current()


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError) as caught, exclusive(tmp_path / "file/lock", timeout_s=0):
        pass
    assert str(caught.value) == f"{tmp_path / 'file'}: cannot make the folder: file exists"


def test_a_process_is_more_than_its_pid() -> None:
    me = ProcessId.current()
    assert me.alive()
    assert not ProcessId(me.pid, me.started + 1).alive()
    assert not ProcessId(2**22 + 5, 0).alive()
    assert ProcessId(me.pid, NOT_TOLD).alive()


@pytest.mark.parametrize("started", [_started_by_proc, _started_by_psutil])
def test_a_killed_process_is_gone_even_before_it_was_waited_for(started: Callable[[int], int | None]) -> None:
    if started is _started_by_proc and sys.platform != "linux":
        pytest.skip("no /proc")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert started(process.pid) == started(process.pid) is not None
        process.kill()
        deadline = time.monotonic() + 30
        while started(process.pid) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert started(process.pid) is None


LYING = """
import fcntl
import sys
from pathlib import Path
fcntl.flock = lambda *_: None  # as a file system that lets everybody in
from mecha.errors import BusyError
from mecha.store.locks import exclusive
folder, number, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for _ in range(rounds):
    with exclusive(folder / "a.lock", timeout_s=60):
        inside = folder / "inside"
        inside.touch(exist_ok=False)
        inside.unlink()
        total = int((folder / "total").read_text())
        (folder / "total").write_text(str(total + 1))
print("done", number)
"""


def test_one_at_a_time_also_where_the_file_system_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "total").write_text("0")
    command = [sys.executable, "-c", LYING, str(tmp_path)]
    others = [
        subprocess.Popen([*command, str(number), "15"], env=environment(), stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    said = [process.communicate(timeout=120)[1] for process in others]
    assert [process.returncode for process in others] == [0] * 4, said
    assert (tmp_path / "total").read_text() == "60"


def test_the_note_of_a_process_from_before_the_last_start_of_the_machine_keeps_nobody_out(lock: Path) -> None:
    me = ProcessId.current()
    lock.parent.mkdir(parents=True)
    noted = lock.with_name(".m.lock.holder")
    noted.write_text(f"{me.pid} {me.started} this-machine another-start\npull of m\n")
    assert holder(lock) is None
    with exclusive(lock, timeout_s=0):
        assert holder(lock) == me
    assert not noted.exists()
    assert [path.name for path in lock.parent.iterdir()] == [lock.name]


def test_two_threads_of_a_process_take_turns(lock: Path) -> None:
    with exclusive(lock, timeout_s=0), pytest.raises(BusyError) as caught, exclusive(lock, timeout_s=0):
        pass
    assert str(caught.value) == f"{lock}: held by process {ProcessId.current().pid}, this one"


def test_who_waits_is_called_again_and_again(lock: Path, other: "subprocess.Popen[str]") -> None:
    calls: list[int] = []

    def look() -> None:
        calls.append(1)
        if len(calls) == 3:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()

    with exclusive(lock, timeout_s=60, while_waiting=look):
        assert len(calls) >= 3
