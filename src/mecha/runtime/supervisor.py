"""Keeps the nodes of a project running: start, watch, start again, stop in order."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mecha.project import NodeSettings
from mecha.runtime.guard import Guard
from mecha.runtime.lifeline import STOP_DEADLINE_S
from mecha.runtime.near_misses import near_misses
from mecha.runtime.process import News, NodeEvent, NodeExit, NodeLine
from mecha.runtime.stop_order import stop_order
from mecha.runtime.supervised import ASKED, SupervisedNode
from mecha.runtime.surroundings import Surroundings
from mecha.runtime.timing import NodeStats

_TURN_S = 0.5
_ASLEEP_S = 2.0
"""A turn that took so long: this process was stopped, or the machine slept, and what nodes said waits to be read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went; see `mecha.runtime.dev.DevSummary`."""

    nodes: Mapping[str, NodeStats]
    failure: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class _Order:
    """What another thread wants to be done to a node."""

    node: str
    act: Callable[[SupervisedNode], None]


@dataclass(frozen=True, slots=True)
class _Addition:
    """A node that is to run too; `environ` None for one that is to run no more."""

    node: str
    environ: Mapping[str, str] | None
    settings: NodeSettings


class Supervisor:
    """Runs nodes as child processes. All callbacks come from the thread that calls `run`.

    Nodes get ready together, and only then do messages flow: a video would lose its first frames otherwise.

    Args:
        root: the project's root.
        environs: the environment of each node's process, by its name.
        on_line: gets the lines of their logs.
        on_event: gets their events but "ready", and "state" for each change of a node's state.
        on_exit: gets the pid of each process that has ended.
        settings: what is done for a node, by its name; the defaults where it is not named.
        duration_s: end after so many seconds of messages; None for no end.
        stop_deadline_s: how long a node may take to end before it is killed.
        until_stopped: go on when nodes have ended or failed, and with no node at all.
    """

    def __init__(
        self,
        root: Path,
        environs: Mapping[str, Mapping[str, str]],
        *,
        on_line: Callable[[str], None],
        on_event: Callable[[dict[str, Any]], None],
        on_exit: Callable[[int], None] = lambda pid: None,  # noqa: ARG005 - nobody asks
        settings: Mapping[str, NodeSettings] | None = None,
        duration_s: float | None = None,
        stop_deadline_s: float = STOP_DEADLINE_S,
        until_stopped: bool = False,
    ) -> None:
        # Reentrant, so that a signal handler may put something into it.
        self._news: SimpleQueue[News | _Order | _Addition | None] = SimpleQueue()
        self._guard = Guard()
        self._around = Surroundings(
            root, self._guard, self._news.put, on_line, on_event, stop_deadline_s, until_stopped=until_stopped
        )
        known = settings or {}
        self._nodes = {
            name: SupervisedNode(name, environ, known.get(name, NodeSettings()), self._around)
            for name, environ in environs.items()
        }
        # Nodes that are on their way out, and what is to come after them, if anything.
        self._leaving: dict[str, _Addition | None] = {}
        self._on_line = on_line
        self._on_exit = on_exit
        self._duration_s = duration_s
        self._until_stopped = until_stopped
        self._stops = 0
        self._go_at_s: float | None = None
        self._turned_at_s = 0.0
        self._failure = ""
        self._exit_code = 0

    # From any thread

    def stop(self) -> None:
        """End the run in order; called again, at once. May be called from a signal handler too."""
        self._stops += 1
        self._news.put(None)

    def restart(self, node: str, reason: str = ASKED) -> None:
        """Stop a node in order and start it again, one that has ended or failed too."""
        self._news.put(_Order(node, lambda one: one.restart(reason)))

    def pause(self, node: str) -> None:
        """Hold a node between two steps."""
        self._news.put(_Order(node, SupervisedNode.pause))

    def resume(self, node: str) -> None:
        """Let a node step again."""
        self._news.put(_Order(node, SupervisedNode.resume))

    def send(self, node: str, line: bytes) -> None:
        """Write a line to the process of a node, see `mecha.runtime.lifeline`."""
        self._news.put(_Order(node, lambda one: one.send(line)))

    def add(self, node: str, environ: Mapping[str, str], settings: NodeSettings | None = None) -> None:
        """Run a node more; one that runs already goes on as it is."""
        self._news.put(_Addition(node, environ, settings or NodeSettings()))

    def remove(self, node: str) -> None:
        """Stop a node in order and forget it; `add` brings it again."""
        self._news.put(_Addition(node, None, NodeSettings()))

    def say(self, node: str, level: str, text: str) -> None:
        """Log a text in the name of a node; an error is an event too."""
        self._news.put(_Order(node, lambda one: one.say(level, text)))

    # The run

    def run(self) -> Outcome:
        """Run the nodes until the run ends; returns when none of their processes is left."""
        began_s = self._turned_at_s = time.monotonic()
        self._guard.start()
        try:
            for node in self._nodes.values():
                node.start()
            while not self._is_over():
                self._turn()
                self._let_go(began_s)
                for node in self._nodes.values():
                    node.tick()
                    self._see_failure(node)
                self._let_leave()
            self._stop_in_order()
        finally:
            # Leave nothing behind, whatever went wrong in this program.
            for node in self._nodes.values():
                node.end()
            self._guard.close()
        return Outcome({name: node.total for name, node in self._nodes.items()}, self._failure, self._exit_code)

    def _turn(self) -> None:
        """Take in what happened next."""
        try:
            news = self._news.get(timeout=self._patience_s())
        except Empty:
            news = None
        now_s = time.monotonic()
        if now_s - self._turned_at_s > _ASLEEP_S:
            for node in self._nodes.values():
                node.overlook()
        self._turned_at_s = now_s
        if isinstance(news, NodeLine):
            self._on_line(news.text)
        elif isinstance(news, NodeEvent):
            # One that was forgotten may have left a last word.
            if news.process.node in self._nodes:
                self._nodes[news.process.node].take_event(news.event)
        elif isinstance(news, NodeExit):
            self._on_exit(news.process.pid)
            self._nodes[news.process.node].take_exit(news.code)
        elif isinstance(news, _Addition):
            self._change(news)
        elif isinstance(news, _Order) and news.node in self._nodes:
            news.act(self._nodes[news.node])

    def _change(self, wanted: _Addition) -> None:
        """Take a node in, or begin to let it go."""
        name, known = wanted.node, wanted.node in self._nodes
        if self._ending:
            return
        if wanted.environ is None:
            if known:
                self._leaving[name] = None
                self._nodes[name].stop()
        elif name in self._leaving:
            self._leaving[name] = wanted
        elif not known:
            self._take_in(wanted, wanted.environ)

    def _take_in(self, wanted: _Addition, environ: Mapping[str, str]) -> None:
        node = self._nodes[wanted.node] = SupervisedNode(wanted.node, environ, wanted.settings, self._around)
        if self._go_at_s is not None:
            node.go()
        node.start()

    def _let_leave(self) -> None:
        """Forget the nodes that were to go and have ended, and take in what comes after them."""
        for name in [name for name in self._leaving if not self._nodes[name].running]:
            after = self._leaving.pop(name)
            del self._nodes[name]
            if after is not None and after.environ is not None:
                self._take_in(after, after.environ)

    def _patience_s(self) -> float:
        due = [node.due_s for node in self._nodes.values()]
        if self._duration_s is not None and self._go_at_s is not None and not self._stops:
            due.append(self._go_at_s + self._duration_s)
        now_s = time.monotonic()
        return min([_TURN_S, *(max(0.0, moment - now_s) for moment in due if moment is not None)])

    def _let_go(self, began_s: float) -> None:
        """Let messages flow once every node is ready, or has had its time."""
        if self._go_at_s is not None or not self._nodes:
            return
        waiting = [node for node in self._nodes.values() if not (node.was_ready or node.finished)]
        took_s = time.monotonic() - began_s
        if any(took_s < node.settings.ready_s for node in waiting):
            return
        for node in waiting:
            node.say("WARNING", f"is not ready after {node.settings.ready_s:g} s; the others begin without it")
        for name, text in near_misses(self._topics()):
            self._nodes[name].say("WARNING", text)
        self._go_at_s = time.monotonic()
        for node in self._nodes.values():
            node.go()

    def _see_failure(self, node: SupervisedNode) -> None:
        """A node failed for good, and with it the run: half a robot is worse than one that says it stands still."""
        if node.state != "failed" or self._ending:
            return
        if self._until_stopped or not node.settings.essential:
            return
        self._failure = f"{node.name}: {node.failure}"
        self._exit_code = node.exit_code
        node.say("ERROR", "is not started again, and the others end too")

    def _topics(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        return {name: (node.inputs, node.outputs) for name, node in self._nodes.items()}

    # Ending

    @property
    def _ending(self) -> bool:
        return bool(self._stops or self._failure)

    def _is_over(self) -> bool:
        if self._ending or self._until_stopped:
            return self._ending
        if all(node.finished for node in self._nodes.values()):
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
        for node in self._nodes.values():
            node.be_last()
        for group in stop_order(self._topics()):
            stopping = [self._nodes[name] for name in group]
            for node in stopping:
                node.stop()
            while any(node.running for node in stopping):
                if self._stops > 2:  # noqa: PLR2004 - ours, theirs, theirs again
                    for node in stopping:
                        node.cut_short()
                    self._stops = 1
                self._turn()
                for node in stopping:
                    node.tick()
