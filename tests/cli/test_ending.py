"""How a command ends where nobody reads on, where the disk is full, by Ctrl-C, and where mecha itself is wrong."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from mecha.cli.ending import ended
from mecha.errors import DiskError, IntegrityError, QuantizationError

MECHA = [sys.executable, "-m", "mecha"]
FULL = Path("/dev/full")
NO_SPACE = (
    "error: standard output: cannot write: no space left where it goes to\n"
    "  next: Free some space there, or write elsewhere.\n"
)
# Ctrl-C comes while {module} is imported, which {then}.
INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                # As dataclasses execute text.
                exec("for _ in range(1000): pass")
            except KeyboardInterrupt:
                {then}

sys.meta_path.insert(0, Finder())
sys.argv = ["mecha", *{arguments!r}]
runpy.run_module("mecha", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(not FULL.exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize(
    "arguments",
    [("models", "list", "--json"), ("--version",), ("--help",), ("models", "show", "arena-n")],
    ids=" ".join,
)
def test_an_output_on_a_full_disk_is_a_fault_of_the_disk(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run([*MECHA, *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.decode()) == (7, NO_SPACE)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no disk that is always full")
def test_a_failure_that_cannot_be_told_keeps_its_exit_code(tmp_path: Path) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run([*MECHA, "models", "show", "nope"], cwd=tmp_path, stdout=full, stderr=full, check=False)
    assert done.returncode == 4


@pytest.mark.parametrize(
    "arguments",
    [("models", "list"), ("--version",), ("models", "--help"), ("detect", "arena://?frames=40&size=160x120", "--json")],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_no_failure(arguments: tuple[str, ...], tmp_path: Path) -> None:
    if arguments[0] == "detect":
        subprocess.run([*MECHA, "models", "pull", "arena-n", "--no-quantize"], cwd=tmp_path, check=True)
    with subprocess.Popen(
        [*MECHA, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        command.stdout.close()
        _, said = command.communicate(timeout=60)
    assert (command.returncode, said) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize(
    ("module", "then", "arguments"),
    [
        ("typer", "raise", ("--version",)),
        ("typer", "raise ImportError('initialization failed')", ("--version",)),
        ("mecha.cli.models", "raise", ("models", "list")),
        ("mecha.cli.models", "raise ImportError('initialization failed')", ("models", "list")),
        ("pydantic", "raise ImportError('initialization failed')", ("models", "list")),
    ],
)
def test_ctrl_c_while_a_module_is_imported_is_ctrl_c(
    module: str, then: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    program = INTERRUPTED.format(module=module, then=then, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "alone", "after_ctrl_c", "said"),
    [
        (QuantizationError("INT8 cannot be made", hint="Wait."), 8, 130, "error: INT8 cannot be made\n  next: Wait.\n"),
        (IntegrityError("a: wrong digest"), 6, 130, "error: a: wrong digest\n"),
        (SystemExit(1), 1, 130, ""),
        (SystemExit(0), 0, 0, ""),
        (KeyboardInterrupt(), 130, 130, ""),
        (
            BrokenPipeError(errno.EPIPE, "Broken pipe"),
            70,
            130,
            "error: mecha failed where it should not: BrokenPipeError: [Errno 32] Broken pipe\n"
            "  next: The same command with MECHA_LOG=debug shows where; please report it.\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.skipif(sys.platform == "win32", reason="nobody can tell there who reads a pipe")
def test_what_fails_after_ctrl_c_is_ctrl_c(
    error: BaseException, alone: int, after_ctrl_c: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ended(lambda: failing(error), lambda: False) == alone
    assert capfd.readouterr().err == said
    assert ended(lambda: failing(error), lambda: True) == after_ctrl_c
    assert capfd.readouterr().err == ""


def test_what_is_not_on_the_disk_is_told_after_ctrl_c_too(capfd: pytest.CaptureFixture[str]) -> None:
    error = DiskError("clip.mp4: cannot write: 3 of 9 frames have reached the disk")
    assert ended(lambda: failing(error), lambda: True) == 7
    assert capfd.readouterr().err == f"error: {error}\n"


def test_a_file_of_a_failure_that_nobody_foresaw_is_not_taken_for_the_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "x.bin")
    assert ended(lambda: failing(error), lambda: False) == 70
    assert "mecha failed where it should not: OSError: [Errno 28]" in capfd.readouterr().err
