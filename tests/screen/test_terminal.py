"""The terminal is read key by key, and given back whatever happens."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mecha.cli.screen.terminal import can_show, encoding_of
from tests.runtime.waiting import wait_for

if sys.platform == "win32":
    pytest.skip("this system has no terminals of this kind", allow_module_level=True)

from tests.screen.pseudo import PseudoTerminal

ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"
DEADLINE_S = 120

BEGIN = """
import os, sys, time
from pathlib import Path
from mecha.cli.screen import live
from mecha.errors import NetworkError
from mecha.project import find_project

screen = live.LiveScreen(find_project(Path.cwd(), {}), None, os.environ)

class Control:
    def stop(self): over.set()
    def restart(self, node): screen.line(f"[INFO] test: restart {node}")
    def pause(self, node): screen.line(f"[INFO] test: pause {node}")
    def resume(self, node): screen.line(f"[INFO] test: resume {node}")

class Bus:
    def publish(self, topic, payload, attachment=b"", *, droppable=False):
        raise NetworkError("bus: " + topic + ": cannot publish: it is closed")

import threading
over = threading.Event()
"""

SHOW = (
    BEGIN
    + """
screen.event({"event": "state", "node": "camera", "state": "running", "pid": 1, "restarts": 0, "reason": ""})
screen.event({"event": "inference", "node": "camera", "ms": 1.0, "precision": "FP32", "frame": 0})
with screen.shown():
    screen.begin(Control(), Bus())
    print("said beside the screen")
    sys.stderr.write("warned beside the screen\\n")
    over.wait(60)
print("after")
"""
)

BREAK = (
    BEGIN
    + """
def render(*arguments):
    raise ValueError("drawn wrongly")

live.render = render
with screen.shown():
    while not screen._plain:
        time.sleep(0.01)
    screen.line("[INFO] camera: the run goes on")
print("after")
"""
)


HANG = (
    BEGIN
    + """
folder = Path(os.environ["TOLD"])
with screen.shown():
    (folder / "shown").touch()
    while not (folder / "hangs").exists():
        time.sleep(0.01)
    for number in range(1000):
        screen.line(f"[INFO] camera: {number}")
    time.sleep(0.3)
    (folder / "went-on").touch()
(folder / "left").touch()
os._exit(0)
"""
)


@pytest.fixture
def on_terminal(private_home: Path) -> Iterator[Callable[..., PseudoTerminal]]:
    opened: list[PseudoTerminal] = []

    def open_one(program: str, **options: object) -> PseudoTerminal:
        opened.append(PseudoTerminal(program, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def wait(terminal: PseudoTerminal, text: str) -> None:
    wait_for(lambda: text in terminal.written, timeout_s=DEADLINE_S, what=repr(text))


def test_keys_command_and_the_terminal_is_as_it_was(on_terminal: Callable[..., PseudoTerminal]) -> None:
    terminal = on_terminal(SHOW)
    wait(terminal, "warned beside the screen")
    wait(terminal, "running")
    assert "[INFO] mecha: \x1b[0msaid beside the screen" in terminal.written
    assert terminal.modes() != terminal.before
    terminal.type(b"p")
    wait(terminal, "pause camera")
    # Nothing of this is a command, the last letter of a sequence least of all.
    terminal.type(b"\x1b[200~qqq\x1b[201~\x1b[1;2q\x1a")
    terminal.type(b"r")
    wait(terminal, "restart camera")
    terminal.type(b"i")
    wait(terminal, "bus: /vision/object/control: cannot publish: it is closed")
    assert terminal.process.poll() is None
    terminal.type(b"q")

    assert terminal.process.wait(DEADLINE_S) == 0
    wait(terminal, "after")
    screen, _, shell = terminal.written.partition(LEFT)
    assert screen.startswith(ENTERED)
    assert shell.split() == ["after"]
    assert terminal.modes() == terminal.before


def test_only_lines_that_have_changed_are_written(on_terminal: Callable[..., PseudoTerminal]) -> None:
    terminal = on_terminal(SHOW)
    wait(terminal, "warned beside the screen")
    wait(terminal, "running")
    known = len(terminal.written)
    terminal.type(b"w")
    terminal.type(b"p")
    wait(terminal, "pause camera")
    terminal.type(b"q")
    terminal.process.wait(DEADLINE_S)

    drawn = terminal.written[known:].partition(LEFT)[0]
    # Every frame moves to the lines it writes, each as wide as the terminal: nothing is blanked and drawn again.
    assert "\x1b[2J" not in drawn
    assert "\x1b[K" not in drawn
    assert "\x1b[2;1H" not in drawn  # the titles of the table
    assert drawn.count("\x1b[?2026h") == drawn.count("\x1b[?2026l")


def test_another_size_is_drawn_at_once(on_terminal: Callable[..., PseudoTerminal]) -> None:
    terminal = on_terminal(SHOW)
    wait(terminal, "\x1b[24;1H")
    assert "\x1b[25;1H" not in terminal.written
    terminal.resize(200, 50)
    terminal.process.send_signal(signal.SIGWINCH)

    wait(terminal, "\x1b[50;1H")
    terminal.type(b"q")
    assert terminal.process.wait(DEADLINE_S) == 0


def test_the_terminal_is_given_back_when_the_process_is_killed(on_terminal: Callable[..., PseudoTerminal]) -> None:
    terminal = on_terminal(SHOW)
    wait(terminal, "running")
    started = psutil.Process(terminal.process.pid).children(recursive=True)
    assert len(started) == 1
    terminal.process.kill()

    wait(terminal, LEFT)
    wait_for(lambda: terminal.modes() == terminal.before, timeout_s=DEADLINE_S)
    wait_for(lambda: not started[0].is_running() or started[0].status() == "zombie", timeout_s=DEADLINE_S)


def test_modes_that_a_shell_has_set_meanwhile_stay(on_terminal: Callable[..., PseudoTerminal]) -> None:
    import termios

    terminal = on_terminal(SHOW)
    wait(terminal, "running")
    modes = terminal.modes()
    modes[3] |= termios.ECHO
    termios.tcsetattr(terminal._slave, termios.TCSANOW, modes)
    taken = terminal.modes()
    terminal.process.kill()

    wait(terminal, LEFT)
    assert terminal.modes() == taken != terminal.before


def test_a_screen_that_ends_leaves_plain_lines_and_says_why(on_terminal: Callable[..., PseudoTerminal]) -> None:
    terminal = on_terminal(BREAK)

    assert terminal.process.wait(DEADLINE_S) == 0
    wait(terminal, "after")
    shell = terminal.written.partition(LEFT)[2]
    assert "ValueError: drawn wrongly" in shell
    assert "[INFO] camera: the run goes on\r\n" in shell
    assert terminal.modes() == terminal.before


def test_a_terminal_that_takes_nothing_any_more_holds_nothing_up(
    on_terminal: Callable[..., PseudoTerminal], tmp_path: Path
) -> None:
    import termios

    terminal = on_terminal(HANG, environ={"TOLD": str(tmp_path)})
    wait_for((tmp_path / "shown").exists, timeout_s=DEADLINE_S)
    termios.tcflow(terminal._slave, termios.TCOOFF)
    (tmp_path / "hangs").touch()

    assert terminal.process.wait(DEADLINE_S) == 0
    assert (tmp_path / "went-on").exists()
    assert (tmp_path / "left").exists()
    assert terminal.modes() == terminal.before


@pytest.mark.parametrize("term", ["", "dumb"])
def test_a_dumb_terminal_gets_lines(term: str) -> None:
    assert not can_show({"TERM": term})


def test_a_pipe_gets_lines() -> None:
    program = "import os; from mecha.cli.screen.terminal import can_show; print(can_show(os.environ))"
    done = subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_terminal_that_is_somebody_elses_gets_lines(on_terminal: Callable[..., PseudoTerminal]) -> None:
    asked = "from mecha.cli.screen.terminal import can_show; print('can', can_show(os.environ))"
    assert os.name == "posix"
    terminal = on_terminal(f"import os; {asked}; os.setpgid(0, 0) if os.fork() == 0 else os.wait(); {asked}")

    terminal.process.wait(DEADLINE_S)
    wait(terminal, "can False")
    assert "can True" in terminal.written


@pytest.mark.parametrize(
    ("environ", "written", "expected"),
    [
        ({}, "utf-8", "utf-8"),
        ({"LANG": "de_DE.UTF-8"}, "utf-8", "utf-8"),
        ({"LC_CTYPE": "C.utf8", "LANG": "C"}, "utf-8", "utf-8"),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, "utf-8", "ascii"),
        ({"LANG": "de_DE.ISO-8859-1"}, "iso8859-1", "ascii"),
        ({}, None, "ascii"),
    ],
)
def test_a_terminal_gets_unicode_where_it_shows_it(environ: dict[str, str], written: str | None, expected: str) -> None:
    assert encoding_of(environ, written) == expected
