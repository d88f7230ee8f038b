"""The faults of `mecha dev --fault` within the process of a node.

Each is put where the real one would show: a source without frames, a session that takes its time, a step that never
returns, a text that is half a config, a disk without space, a process that is killed. What the node and its supervisor
do about it is what they do about real ones.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Literal

from mecha.runtime.events import Events
from mecha.runtime.faults import BEGAN_VARIABLE, Fault, faults_of
from mecha.runtime.full_disk import FullDisk

if TYPE_CHECKING:
    from mecha.runtime.node import Node

_TURN_S = 0.5
_CRASHED_EXIT_CODE = 9

Tell = Callable[[Fault, Literal["begin", "end"]], None]


class Injection:
    """The faults of one process, and which of them last now.

    Args:
        faults: of this process, in the order in which they come.
        began_s: when messages began to flow in the run, on the monotonic clock of the system; None before.
        tell: called as faults begin and end, from several threads.
        clock: monotonic seconds, the same for all processes of the system.
    """

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        *,
        began_s: float | None = None,
        tell: Tell = lambda fault, phase: None,  # noqa: ARG005 - nobody asks
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._faults = tuple(faults)
        self._clock = clock
        self._began_s = began_s
        self._tell = tell
        # What came before this process did is not repeated: a node that crashed once runs on when it is started again.
        self._started_s = -1.0 if began_s is None else clock() - began_s
        self._coming = [fault for fault in self._faults if fault.at_s > self._started_s]
        self._disk = FullDisk(lambda: self.lasts("disk-full"))

    def begin(self, go: Event) -> None:
        """Let faults come from now on; their time counts from `go`, or from when the run began."""
        if not self._faults:
            return
        if self.planned("disk-full"):
            self._disk.watch()
        if self.lasts("disk-full"):
            self._disk.fill()
        Thread(target=self._run, args=(go,), name="faults", daemon=True).start()

    def planned(self, kind: str) -> bool:
        """Tell whether a fault of a kind lasts, or may come."""
        return any(fault.kind == kind for fault in self._faults)

    def lasting(self, kind: str) -> Fault | None:
        """Return the fault of a kind that lasts now."""
        if self._began_s is None:
            return None
        elapsed_s = self._clock() - self._began_s
        return next((fault for fault in self._faults if fault.kind == kind and fault.lasts(elapsed_s)), None)

    def lasts(self, kind: str) -> bool:
        """Tell whether a fault of a kind lasts now."""
        return self.lasting(kind) is not None

    def wait_out(self, kind: str, ended: Event) -> None:
        """Return when no fault of a kind lasts any more, or when `ended` is set."""
        while self.lasts(kind) and not ended.wait(0.01):
            pass

    def config_text(self, text: bytes) -> bytes:
        """Return what is read of a config.json: the first half of it while it is bad, as a torn write leaves it."""
        text = text.rstrip() if self.planned("bad-config") else text
        return text[: len(text) // 2] if self.lasts("bad-config") else text

    def node_class(self, node_class: "type[Node[Any]]") -> "type[Node[Any]]":
        """Return a node class whose step hangs when that is due."""
        if not self.planned("node-hang"):
            return node_class

        def step(node: "Node[Any]", message: Any) -> None:  # noqa: ANN401 - whatever the inputs name
            self._hang()
            node_class.step(node, message)

        return type(node_class.__name__, (node_class,), {"step": step, "__module__": node_class.__module__})

    def _hang(self) -> None:
        fault = self.lasting("node-hang")
        if fault is None or fault not in self._coming:
            return
        self._coming.remove(fault)
        self._tell(fault, "begin")
        if fault.for_s is not None:
            time.sleep(fault.for_s)
            self._tell(fault, "end")
            return
        while True:
            time.sleep(_TURN_S)

    # The thread beside the node

    def _run(self, go: Event) -> None:
        go.wait()
        if self._began_s is None:
            self._began_s = self._clock()
        moments: list[tuple[float, Literal["begin", "end"], Fault]] = []
        for fault in self._faults:
            # The step that hangs tells that itself.
            if fault.kind != "node-hang":
                moments.append((fault.at_s, "begin", fault))
                moments += [(fault.at_s + fault.for_s, "end", fault)] if fault.for_s is not None else []
        for at_s, phase, fault in sorted(moments, key=lambda moment: moment[0]):
            if at_s <= self._started_s:
                continue
            while (left_s := self._began_s + at_s - self._clock()) > 0:
                time.sleep(min(left_s, _TURN_S))
            self._pass(fault, phase)

    def _pass(self, fault: Fault, phase: Literal["begin", "end"]) -> None:
        self._tell(fault, phase)
        if fault.kind == "node-crash":
            crash()
        elif fault.kind == "disk-full" and phase == "begin":
            self._disk.fill()
        elif fault.kind == "disk-full":
            ended_s = fault.at_s + (fault.for_s or 0.0)
            if not any(other.kind == fault.kind and other.lasts(ended_s) for other in self._faults):
                self._disk.free()


def crash() -> None:
    """End this process as a fault in a library would: at once, with nothing closed."""
    if sys.platform == "win32":
        os._exit(_CRASHED_EXIT_CODE)
    os.kill(os.getpid(), signal.SIGKILL)


_NONE = Injection()
_here = _NONE


def of_this_process() -> Injection:
    """Return the faults of this process; usually there are none."""
    return _here


def begin_faults(environ: Mapping[str, str], node: str, go: Event, *, events: Events, log: logging.Logger) -> Injection:
    """Let the faults come that the environment of a node's process says, and return them."""
    global _here  # noqa: PLW0603 - a process is killed, or its disk full, as a whole

    def tell(fault: Fault, phase: Literal["begin", "end"]) -> None:
        log.warning("Fault %s %ss", fault.request, phase)
        events.fault(fault.request, phase)

    faults = faults_of(environ, node)
    began = environ.get(BEGAN_VARIABLE)
    _here = Injection(faults, began_s=float(began) if began else None, tell=tell) if faults else _NONE
    _here.begin(go)
    return _here
