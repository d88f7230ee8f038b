"""Following a process that this one has started."""

import subprocess
import sys
import threading

import psutil
import pytest

from mecha.child_process import ended_after, piped, read_lines
from tests.runtime.waiting import wait_for

# Lines without end, so that there is always one that was not read.
TALKER = "import sys\nwhile True: sys.stdout.write('a line\\n' * 1000)"


def started(program: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_one_that_is_ended_while_it_talks_leaves_neither_a_fault_nor_a_thread() -> None:
    # A fault of a thread fails the test that it happens in.
    child, first, ended = started(TALKER), threading.Event(), threading.Event()

    def interrupted() -> None:
        assert first.wait(30)
        raise KeyboardInterrupt

    reader = read_lines(child.stdout, lambda _: first.set(), "lines of a talker", at_end=ended.set)
    with pytest.raises(KeyboardInterrupt), ended_after(child):
        interrupted()
    assert child.returncode is not None
    reader.join(30)
    assert ended.is_set()
    assert piped(child.stdout).closed


def test_all_that_one_wrote_is_read_before_its_end_is_told() -> None:
    child, lines = started("import sys; sys.stdout.write('one\\ntwo\\nhalf')"), list[bytes]()
    with ended_after(child):
        read_lines(child.stdout, lines.append, "lines", at_end=lambda: lines.append(b"."))
        wait_for(lambda: lines[-1:] == [b"."], what="its output ends")
    assert lines == [b"one\n", b"two\n", b"half", b"."]


@pytest.mark.skipif(sys.platform == "win32", reason="starts a session")
def test_an_end_does_not_wait_for_what_holds_the_output() -> None:
    lines = list[bytes]()
    child = started(
        "import subprocess, sys\n"
        "held = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(held.pid, flush=True)\n"
        "sys.stdin.read()"
    )
    try:
        with ended_after(child):
            reader = read_lines(child.stdout, lines.append, "lines")
            wait_for(lambda: len(lines) == 1, what="the other one has started")
        assert psutil.pid_exists(int(lines[0]))
    finally:
        for line in lines:
            psutil.Process(int(line)).kill()
    reader.join(30)
    assert piped(child.stdout).closed


def test_a_process_without_a_pipe_is_a_mistake_of_ours() -> None:
    with pytest.raises(RuntimeError, match="without a pipe"):
        piped(None)
