"""How the process of a node and its supervisor hold on to each other.

The supervisor keeps the node's standard input open: a line `go` lets messages flow, `pause` and `resume` hold the node
between two steps, and its end means that the supervisor is gone or wants the node to stop, however it came to that.
Where the system can kill a process with its parent, it is asked to: a node that hangs cannot look at a pipe.
"""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from threading import Event
from types import FrameType

from mecha.runtime.events import SUPERVISED_VARIABLE

STOP_DEADLINE_S = 5.0
"""How long a node may take to close once it is to stop."""
SHOW_SIGNAL: int | None = getattr(signal, "SIGUSR1", None)
"""Lets a node write where each of its threads is, when it is stuck in a library too; None where there is none such."""
_LEFT_BEHIND_EXIT_CODE = 9


class Life:
    """What may end the process of a node: a signal, or its supervisor.

    Attributes:
        supervisor_pid: None for a node that was started by hand.
        go: set when messages may flow.
        paused: set while there is to be no step.
        stopping: set when the node is to end.
        interrupted: somebody pressed Ctrl-C.
        on_wake: called when the node should look at what changed.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        supervisor = environ.get(SUPERVISED_VARIABLE)
        self.supervisor_pid = int(supervisor) if supervisor else None
        self.go = Event()
        self.paused = Event()
        self.stopping = Event()
        self.interrupted = False
        self.on_wake: Callable[[], None] | None = None

    def begin(self) -> None:
        """Listen to signals, and to the supervisor where there is one."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
        if self.supervisor_pid is None:
            self.go.set()
            return
        _die_with_parent(self.supervisor_pid)
        if SHOW_SIGNAL is not None:
            faulthandler.register(SHOW_SIGNAL, all_threads=True)
        threading.Thread(target=self._listen, name="lifeline", daemon=True).start()

    def wake(self) -> None:
        """Let the node look at what changed."""
        if self.on_wake is not None:
            self.on_wake()

    def stop(self) -> None:
        """Let the node end."""
        self.stopping.set()
        self.wake()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or number == signal.SIGINT
        # In a thread of its own: the lock that is needed may be held by the one that this handler interrupted.
        threading.Thread(target=self.stop, name="stop", daemon=True).start()

    def _listen(self) -> None:
        # Not sys.stdin: a thread inside of it keeps the interpreter from ending.
        pending = b""
        while chunk := os.read(0, 4096):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._take(line)
        self.stop()
        end_after(STOP_DEADLINE_S)

    def _take(self, line: bytes) -> None:
        if line == b"go":
            self.go.set()
        elif line == b"pause":
            self.paused.set()
        elif line == b"resume":
            self.paused.clear()


def end_after(deadline_s: float) -> None:
    """End this process, hard, unless it has ended by itself before."""
    timer = threading.Timer(deadline_s, os._exit, args=(_LEFT_BEHIND_EXIT_CODE,))
    timer.daemon = True
    timer.start()


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL)
    # Between its start and the line above nobody would have told this process.
    if os.getppid() != parent_pid:
        os._exit(_LEFT_BEHIND_EXIT_CODE)
