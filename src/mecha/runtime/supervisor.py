"""Keeps the nodes of a project running: start, watch, start again, stop in order."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mecha.errors import NodeError
from mecha.runtime.events import prefixed
from mecha.runtime.lifeline import STOP_DEADLINE_S
from mecha.runtime.process import News, NodeEvent, NodeExit, NodeLine, NodeProcess, exit_words
from mecha.runtime.restart import LIMIT, RestartPolicy
from mecha.runtime.timing import NodeStats

_READY_DEADLINE_S = 60.0
_TURN_S = 0.5
_FORWARDED = frozenset({"inference", "swap", "error"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went; see `mecha.runtime.dev.DevSummary`."""

    nodes: Mapping[str, NodeStats]
    failure: str
    exit_code: int


@dataclass(slots=True)
class _Node:
    """One node, over all of its processes."""

    name: str
    environ: Mapping[str, str]
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    process: NodeProcess | None = None
    ready: bool = False
    was_ready: bool = False
    finished: bool = False
    restart_at_s: float | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    before: NodeStats = field(default_factory=NodeStats)
    now: NodeStats = field(default_factory=NodeStats)
    last_error: str = ""

    @property
    def total(self) -> NodeStats:
        return replace(
            self.now,
            frames=self.before.frames + self.now.frames,
            dropped=self.before.dropped + self.now.dropped,
            restarts=self.before.restarts,
        )


class Supervisor:
    """Runs nodes as child processes. All callbacks come from the thread that calls `run`.

    Nodes get ready together, and only then do messages flow: a video would lose its first frames otherwise.

    Args:
        root: the project's root.
        environs: the environment of each node's process, by its name.
        on_line: gets the lines of their logs.
        on_event: gets their "inference", "swap" and "error" events.
        on_exit: gets the pid of each process that has ended.
        duration_s: end after so many seconds of messages; None for no end.
        stop_deadline_s: how long a node may take to end before it is killed.
    """

    def __init__(
        self,
        root: Path,
        environs: Mapping[str, Mapping[str, str]],
        *,
        on_line: Callable[[str], None],
        on_event: Callable[[dict[str, Any]], None],
        on_exit: Callable[[int], None] = lambda pid: None,  # noqa: ARG005 - nobody asks
        duration_s: float | None = None,
        stop_deadline_s: float = STOP_DEADLINE_S,
    ) -> None:
        self._root = root
        self._nodes = {name: _Node(name, environ) for name, environ in environs.items()}
        self._on_line = on_line
        self._on_event = on_event
        self._on_exit = on_exit
        self._duration_s = duration_s
        self._stop_deadline_s = stop_deadline_s
        # Reentrant, so that a signal handler may put something into it.
        self._news: SimpleQueue[News | None] = SimpleQueue()
        self._stops = 0
        self._go_at_s: float | None = None
        self._failure = ""
        self._exit_code = 0

    def stop(self) -> None:
        """End the run in order; called again, at once. May be called from any thread and from a signal handler."""
        self._stops += 1
        self._news.put(None)

    def run(self) -> Outcome:
        """Run the nodes until the run ends; returns when none of their processes is left."""
        began_s = time.monotonic()
        try:
            for node in self._nodes.values():
                self._start(node)
            while not self._is_over():
                self._turn(_TURN_S)
                self._let_go(began_s)
                self._restart_what_is_due()
            self._stop_in_order()
        finally:
            self._kill_all()
        return Outcome({name: node.total for name, node in self._nodes.items()}, self._failure, self._exit_code)

    # Starting

    def _start(self, node: _Node) -> None:
        node.restart_at_s = None
        node.ready = False
        try:
            node.process = NodeProcess(node.name, self._root, node.environ, self._news.put)
        except NodeError as error:
            self._fail(node, str(error), error.exit_code)

    def _let_go(self, began_s: float) -> None:
        """Let messages flow once every node is ready, or has had its time."""
        if self._go_at_s is not None:
            return
        waiting = [node for node in self._nodes.values() if not (node.was_ready or node.finished)]
        if waiting and time.monotonic() - began_s < _READY_DEADLINE_S:
            return
        for node in waiting:
            self._say("WARNING", node, f"is not ready after {_READY_DEADLINE_S:g} s; the others begin without it")
        self._go_at_s = time.monotonic()
        for node in self._nodes.values():
            if node.process is not None and node.ready:
                node.process.go()

    def _restart_what_is_due(self) -> None:
        for node in self._nodes.values():
            if node.restart_at_s is not None and time.monotonic() >= node.restart_at_s:
                self._start(node)

    # What nodes do

    def _turn(self, timeout_s: float) -> None:
        """Take in what happened, for at most so long."""
        due = [node.restart_at_s for node in self._nodes.values() if node.restart_at_s is not None]
        if self._duration_s is not None and self._go_at_s is not None:
            due.append(self._go_at_s + self._duration_s)
        timeout_s = min([timeout_s, *(max(0.0, moment - time.monotonic()) for moment in due)])
        try:
            news = self._news.get(timeout=timeout_s)
        except Empty:
            return
        if isinstance(news, NodeLine):
            self._on_line(news.text)
        elif isinstance(news, NodeEvent):
            self._take_event(self._nodes[news.process.node], news.event)
        elif isinstance(news, NodeExit):
            self._take_exit(self._nodes[news.process.node], news)

    def _take_event(self, node: _Node, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "ready":
            node.ready = node.was_ready = True
            node.inputs, node.outputs = tuple(event["inputs"]), tuple(event["outputs"])
            if self._go_at_s is not None and node.process is not None:
                node.process.go()
        elif kind == "stats":
            node.now = NodeStats(
                frames=event["frames"],
                dropped=event["dropped"],
                p50_ms=event["p50_ms"],
                p95_ms=event["p95_ms"],
                rss_mb=event["rss_mb"],
            )
        elif kind in _FORWARDED:
            if kind == "error":
                node.last_error = event["message"]
            self._on_event(event)

    def _take_exit(self, node: _Node, news: NodeExit) -> None:
        node.process = None
        node.ready = False
        self._on_exit(news.process.pid)
        if news.code == 0 or self._ending:
            node.finished = True
            return
        delay_s = node.policy.delay_s(news.code, time.monotonic(), was_ready=node.was_ready)
        how = exit_words(news.code)
        if delay_s is None:
            why = node.last_error.splitlines()[0] if node.last_error else f"ended with {how}"
            again = f", {LIMIT} times in a short while" if node.policy.count > LIMIT else ""
            self._fail(node, f"{why}{again}", news.code)
            return
        node.before = replace(node.total, restarts=node.before.restarts + 1)
        node.now = replace(node.now, frames=0, dropped=0)
        node.restart_at_s = time.monotonic() + delay_s
        self._say("ERROR", node, f"ended with {how}; it is started again in {delay_s:g} s")

    def _fail(self, node: _Node, why: str, code: int) -> None:
        """A node failed for good, and with it the run: half a robot is worse than one that says it stands still."""
        node.finished = True
        if self._failure:
            return
        self._failure = f"{node.name}: {why}"
        # A signal or the limit of restarts says nothing more than that a node failed.
        self._exit_code = code if code > 0 and node.policy.count <= LIMIT else NodeError.exit_code
        self._say("ERROR", node, "is not started again, and the others end too")

    def _say(self, level: str, node: _Node, text: str) -> None:
        self._on_line(prefixed(level, node.name, text))
        if level == "ERROR":
            self._on_event({"event": "error", "node": node.name, "message": text})

    # Ending

    @property
    def _ending(self) -> bool:
        return bool(self._stops or self._failure)

    def _is_over(self) -> bool:
        if self._ending or all(node.finished for node in self._nodes.values()):
            return True
        if self._go_at_s is None:
            return False
        if self._duration_s is not None and time.monotonic() - self._go_at_s >= self._duration_s:
            return True
        sources = [node for node in self._nodes.values() if node.was_ready and not node.inputs]
        return bool(sources) and all(node.finished for node in sources)

    def _stop_in_order(self) -> None:
        """Stop the nodes, each after those it reads from: what they sent last is still worked on."""
        self._stops += 1
        for group in stop_order({name: (node.inputs, node.outputs) for name, node in self._nodes.items()}):
            running = [self._nodes[name] for name in group]
            for node in running:
                node.restart_at_s = None
                if node.process is not None:
                    node.process.stop()
            deadline_s = time.monotonic() + self._stop_deadline_s
            while any(node.process is not None for node in running):
                if time.monotonic() > deadline_s or self._stops > 2:  # noqa: PLR2004 - ours, theirs, theirs again
                    self._kill(running)
                    deadline_s = math.inf
                    self._stops = 1
                self._turn(_TURN_S)

    def _kill(self, nodes: Iterable[_Node]) -> None:
        for node in nodes:
            if node.process is not None:
                self._say("ERROR", node, f"does not end, and is killed ({node.process.pid})")
                node.process.kill()

    def _kill_all(self) -> None:
        """Leave nothing behind, whatever went wrong in this program."""
        for node in self._nodes.values():
            if node.process is not None:
                node.process.kill()


def stop_order(topics: Mapping[str, tuple[Iterable[str], Iterable[str]]]) -> tuple[tuple[str, ...], ...]:
    """Return nodes in the groups in which they are stopped: each after those it reads from.

    Args:
        topics: inputs and outputs by node. Nodes that read from each other in a circle are stopped together.
    """
    left = dict(topics)
    groups = []
    while left:
        written = {name: set(outputs) for name, (_, outputs) in left.items()}
        free = [
            name
            for name, (inputs, _) in left.items()
            if not any(set(inputs) & outputs for other, outputs in written.items() if other != name)
        ]
        group = tuple(free or left)
        groups.append(group)
        for name in group:
            del left[name]
    return tuple(groups)
