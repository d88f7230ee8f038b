"""`mecha dev` as somebody sees it who keeps it open: in a real terminal, at two sizes, with keys."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from benchmarks.tmux import TMUX, Tmux

from tests.runtime.projects import COUNTER, TICKER, configure, make_project
from tests.runtime.waiting import wait_for

pytestmark = pytest.mark.skipif(TMUX is None, reason="needs tmux")

DEV = f"{shlex.quote(sys.executable)} -m mecha dev"
DEADLINE_S = 120


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "robot", camera=TICKER, counter=COUNTER)
    configure(root, "camera", pause_s=0.03)
    return root


@pytest.fixture
def terminal(root: Path, run_time_folder: Path) -> Iterator[Tmux]:
    opened = Tmux(run_time_folder, (80, 24), os.environ, root)
    yield opened
    opened.close()


def wait(terminal: Tmux, seen: Callable[[list[str]], bool], what: str) -> list[str]:
    def look() -> list[str] | None:
        lines = terminal.screen()
        return lines if seen(lines) else None

    lines = wait_for(look, timeout_s=DEADLINE_S, what=f"{what} on the screen")
    assert lines is not None
    return lines


def row(lines: list[str], node: str) -> str:
    return next((line for line in lines if line[1:].startswith(f"{node} ")), "")


def is_running(lines: list[str]) -> bool:
    return "running" in row(lines, "camera") and "FP32" in row(lines, "counter") and "%" in row(lines, "counter")


def test_the_screen_at_two_sizes_with_its_keys(terminal: Tmux) -> None:
    terminal.run(f"stty -a > before; echo old lines; {DEV}")
    lines = wait(terminal, is_running, "two nodes at work")
    assert [len(lines), max(map(len, lines))] == [24, 80]
    assert lines[0].startswith(" mecha dev  robot  00:0")
    assert lines[1] == " NODE        STATE       PREC   IN/s  OUT/s  DROPPED  RST   MEMORY    CPU"
    assert lines[4].split() == ["ms", "p50/p95", "STEP", "PRE", "SESSION", "POST", "NOTE"]
    assert lines[7] == "── log " + "─" * 73
    assert lines[23] == " i INT8  p pause  r restart  d degrade  c calibrate  / find  ? help  q quit"
    assert terminal.told("#{alternate_on} #{cursor_flag} #{wrap_flag}") == "1 0 0"

    terminal.type("p")
    wait(terminal, lambda now: "paused" in row(now, "camera"), "a paused camera")
    terminal.type("p")
    wait(terminal, lambda now: "running" in row(now, "camera"), "a camera that goes on")
    terminal.resize(200, 50)
    lines = wait(
        terminal,
        lambda now: len(now) == 50 and now[4].startswith("── log") and now[49].endswith("? help  q quit"),
        "one line a node",
    )
    assert len(lines[4]) == 200
    assert lines[1].split()[-4:] == ["PRE", "SESSION", "POST", "NOTE"]
    terminal.resize(80, 24)
    terminal.type("Down", "n", "r")
    wait(terminal, lambda now: " 1 " in row(now, "counter")[44:] and is_running(now), "a counter started again")
    assert terminal.screen()[7].startswith("── log of counter ─")
    terminal.type("?")
    wait(terminal, lambda now: any(line.startswith("── help") for line in now), "the help")
    terminal.type("q")

    lines = wait(terminal, lambda now: now[-1].startswith("$") or "$" in now, "the shell again")
    assert any("old lines" in line for line in lines)
    assert any(line.startswith("NODE ") and line.endswith("MEMORY") for line in lines)
    assert terminal.told("#{alternate_on} #{cursor_flag} #{wrap_flag}") == "0 1 1"
    terminal.run("stty -a > after; clear; cmp before after && echo as before")
    wait(terminal, lambda now: "as before" in now, "the modes of before")


def test_what_ends_a_run_is_read_on_the_terminal_that_is_left(terminal: Tmux, root: Path) -> None:
    configure(root, "camera", frames="many")
    terminal.run(f"clear; {DEV} --duration 50s; echo ended $?")

    lines = wait(terminal, lambda now: any(line.startswith("ended ") for line in now), "the end")
    text = "".join(lines)
    assert "ended 3" in lines
    assert "[ERROR] camera: configs/common/nodes/camera/config.json:2: frames: got " in text
    assert "error: camera: configs/common/nodes/camera/config.json:2: frames: got " in text


def test_a_killed_run_gives_the_terminal_back_and_leaves_no_process(terminal: Tmux) -> None:
    terminal.run(f"echo old lines; {DEV}")
    wait(terminal, is_running, "two nodes at work")
    shell = psutil.Process(int(terminal.told("#{pane_pid}")))
    processes = shell.children(recursive=True)
    (dev,) = (process for process in processes if process.ppid() == shell.pid)
    dev.kill()

    wait_for(lambda: not any(process.is_running() for process in processes), timeout_s=DEADLINE_S)
    wait(terminal, lambda now: any("old lines" in line for line in now), "the lines of before")
    assert terminal.told("#{alternate_on} #{cursor_flag} #{wrap_flag}") == "0 1 1"


def test_plain_gets_lines_as_a_pipe_does(terminal: Tmux) -> None:
    terminal.run(f"clear; {DEV} --plain --duration 0.5s; echo ended $?")

    lines = wait(terminal, lambda now: "ended 0" in now, "the end")
    assert "[INFO] camera: ticking" in lines
    assert sum(line.startswith("NODE ") for line in lines) == 1
    assert terminal.told("#{alternate_on}") == "0"
