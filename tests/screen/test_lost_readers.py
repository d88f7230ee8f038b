"""Nodes end in order, and not with what they write to: a pipe, a terminal, a full disk."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.projects import TICKER, make_project
from tests.runtime.waiting import wait_for

pytestmark = pytest.mark.usefixtures("run_time_folder")

DEV = [sys.executable, "-m", "mecha", "dev"]
DEADLINE_S = 120
CLOSING = (
    TICKER.replace("self.seq += 1", "self.seq += 1; self.log.info('tick')")
    + """
        def close(self) -> None:
            (self.root / "closed").touch()
"""
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "robot", camera=CLOSING)


@contextmanager
def started(root: Path, *options: str, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*DEV, *options], cwd=root, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_goes_away_ends_the_run_in_order(root: Path, options: tuple[str, ...]) -> None:
    with started(root, *options, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()

        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        # As JSON the log goes here.
        said = process.stderr.read().decode()
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert (root / "closed").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_log_on_a_full_disk_ends_nothing(root: Path) -> None:
    with Path("/dev/full").open("wb") as full, started(root, "--duration", "1s", stdout=full.fileno()) as process:
        assert process.wait(DEADLINE_S) == 0

    assert (root / "closed").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no terminals of this kind")
def test_a_terminal_that_is_closed_ends_the_run_in_order(root: Path) -> None:
    from tests.screen.pseudo import PseudoTerminal

    program = f"import os, runpy, sys; os.chdir({json.dumps(str(root))}); sys.argv = ['mecha', 'dev']; "
    terminal = PseudoTerminal(program + "runpy.run_module('mecha', run_name='__main__')")
    try:
        wait_for(lambda: "running" in terminal.written, timeout_s=DEADLINE_S)
        terminal.hang_up()
        terminal.process.wait(DEADLINE_S)
    finally:
        terminal.close()

    assert (root / "closed").exists()
