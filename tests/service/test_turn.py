"""What a command says while another process works on the same model: who, what, and never nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.detect.blob_detector import blob_detector
from tests.service.conftest import Bench

from mecha.errors import BusyError
from mecha.service.turn import turn
from mecha.store.locks import exclusive, holder, holder_words
from mecha.store.models import ModelStore

HOLD = """
import sys
from pathlib import Path
from mecha.store.locks import exclusive
with exclusive(Path(sys.argv[1]), timeout_s=0, doing=sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""
DOING = "INT8 build of blobs from what object-detector saw"


@contextmanager
def holding(lock: Path, doing: str = DOING) -> Iterator["subprocess.Popen[str]"]:
    """Run another process that holds a lock until it reads a line or is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock), doing], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def let_go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A project with one published model, and no server."""
    bench = Bench(tmp_path / "project", tmp_path / "home", {"HF_ENDPOINT": "http://127.0.0.1:9"})
    bench.root.mkdir()
    bench.home.mkdir()
    bench.write_catalog("")
    (bench.root / "blobs.onnx").write_bytes(blob_detector())
    added = bench.command("models", "add", "blobs.onnx", "--name", "blobs", "--no-quantize")
    assert added.returncode == 0, added.stderr
    return bench


@pytest.mark.parametrize(
    "arguments",
    [("quantize", "blobs", "--method", "dynamic_int8"), ("tune", "blobs")],
    ids=lambda arguments: str(arguments[0]),
)
def test_a_command_says_whom_it_waits_for_and_goes_on_when_that_is_done(
    bench: Bench, arguments: tuple[str, ...]
) -> None:
    lock = ModelStore(bench.root / "models").lock_file("blobs")
    with holding(lock) as other, bench.start("models", *arguments) as command:
        assert command.stdout is not None
        line = command.stdout.readline()
        assert line == f"waiting for process {other.pid} ({DOING}) ...\n"
        assert command.poll() is None
        let_go(other)
        rest = command.stdout.read()
    assert command.returncode == 0, rest
    assert "waiting for" not in rest


def test_programs_are_told_of_it_as_of_a_stage(bench: Bench) -> None:
    lock = ModelStore(bench.root / "models").lock_file("blobs")
    with holding(lock) as other, bench.start("models", "quantize", "blobs", "--json") as command:
        assert command.stdout is not None
        first = json.loads(command.stdout.readline())
        command.kill()
    stage = f"waiting for process {other.pid} ({DOING})"
    assert first == {"event": "progress", "stage": stage, "completed": 0, "total": None}


def test_who_waits_too_long_is_told_who_held_it_and_what_for(tmp_path: Path) -> None:
    lock, told = tmp_path / "m.lock", []
    with holding(lock, "pull of blobs") as other:
        with pytest.raises(BusyError) as caught, turn(lock, "tune", lambda *said: told.append(said), timeout_s=0.2):
            pass
        assert str(caught.value) == f"{lock}: held by process {other.pid} (pull of blobs) after 0.2 s"
        assert caught.value.hint == f"Wait until process {other.pid} is done, or stop it, and try again."
        assert told == [(f"waiting for process {other.pid} (pull of blobs)", 0, None)]


def test_what_it_is_held_for_is_gone_with_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "m.lock"
    with holding(lock) as other:
        other.kill()
        other.wait()
        assert holder(lock) is None
        assert holder_words(lock) == "another process"
    said: list[str] = []
    with turn(lock, "pull of café", lambda stage, *_: said.append(stage), timeout_s=0):
        assert holder_words(lock).endswith(" (pull of café)")
    assert said == [], "nobody held it any more"


def test_a_holder_of_another_version_that_noted_no_purpose_is_known_by_its_pid(tmp_path: Path) -> None:
    lock = tmp_path / "m.lock"
    with exclusive(lock, timeout_s=0):
        noted = lock.with_name("m.lock.holder")
        noted.write_text(noted.read_text().split("\n")[0] + "\n")
        by = holder(lock)
        assert by is not None
        assert holder_words(lock) == f"process {by.pid}"
