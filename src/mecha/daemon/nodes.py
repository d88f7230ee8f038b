"""The nodes of the daemon: the supervisor in a thread of its own, on the bus of the project."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from mecha.errors import MechaError, NodeError, NotFoundError
from mecha.project import NodeSettings, Project
from mecha.runtime.bus import Bus
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.code_watch import CodeWatch
from mecha.runtime.dev import CODE_CHANGED, DevOptions, node_environ
from mecha.runtime.messages import ControlMessage
from mecha.runtime.supervised import ASKED
from mecha.runtime.supervisor import Supervisor
from mecha.words import alternatives, did_you_mean

CONTROL_TOPIC = "/vision/object/control"
_NOT_FOR_NODES = frozenset({"MECHA_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"})
_STOP_DEADLINE_S = 2.0
"""For one node; the daemon as a whole has some five seconds."""
_AT_ONCE_EVERY_S = 0.4


@dataclass
class _Run:
    """One life of the bus and the supervisor on it."""

    names: tuple[str, ...]
    up: threading.Event = field(default_factory=threading.Event)
    fault: MechaError | None = None
    bus: Bus | None = None
    endpoint: str = ""
    supervisor: Supervisor | None = None
    watches: dict[str, CodeWatch] = field(default_factory=dict)
    thread: threading.Thread | None = None


class Nodes:
    """Runs nodes of a project, as `mecha dev` does, until it is stopped. Used from any thread.

    Args:
        project: whose nodes they are.
        environ: of this process; nodes get it without what is for this process only.
        on_line: gets the lines of their logs, from a thread of its own; on_event the same, with their events.
        options: how they run; see `DevOptions`.
    """

    def __init__(
        self,
        project: Project,
        environ: Mapping[str, str],
        *,
        on_line: Callable[[str], None],
        on_event: Callable[[dict[str, Any]], None],
        options: DevOptions | None = None,
    ) -> None:
        self._project = project
        self._environ = {name: value for name, value in environ.items() if name not in _NOT_FOR_NODES}
        self._on_line = on_line
        self._on_event = on_event
        self._options = options or DevOptions(stop_deadline_s=_STOP_DEADLINE_S)
        self._lock = threading.RLock()
        self._run: _Run | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that are to run, those that have failed included."""
        with self._lock:
            return self._run.names if self._run is not None else ()

    @property
    def alive(self) -> bool:
        """Somebody looks after the nodes."""
        with self._lock:
            return self._run is not None and self._run.thread is not None and self._run.thread.is_alive()

    @property
    def bus(self) -> Bus:
        """The bus of the project, to listen to topics.

        Raises:
            NodeError: it is not open: the daemon begins or ends.
        """
        return self._running().bus

    def start(self, names: Iterable[str]) -> None:
        """Let these nodes run, and no others. None at all opens the bus.

        Raises:
            BusyError: another process runs this project's nodes.
            MechaError: the bus cannot be opened.
        """
        wanted = tuple(dict.fromkeys(names))
        with self._lock:
            if self._run is None:
                self._run = self._opened(wanted)
                return
            before, self._run.names = self._run.names, wanted
            for name in before:
                if name not in wanted:
                    self._let_go(self._run, name)
            for name in wanted:
                if name not in before:
                    self._take_in(self._run, name)

    def stop(self, deadline_s: float = 3.5) -> None:
        """Stop all nodes in order, and leave the bus.

        Args:
            deadline_s: what has not ended by then is killed.
        """
        with self._lock:
            run, self._run = self._run, None
        if run is None or run.thread is None or run.supervisor is None:
            return
        run.supervisor.stop()
        run.thread.join(deadline_s)
        while run.thread.is_alive():
            run.supervisor.stop()
            run.thread.join(_AT_ONCE_EVERY_S)

    def reload(self, project: Project) -> None:
        """Take other settings: nodes that these say something else of are started again, with another bus all of them.

        Raises:
            MechaError: the bus cannot be opened; then all is as before.
        """
        with self._lock:
            before, self._project = self._project, project
            names = self.names
            if self._run is None:
                return
            if before.settings.bus != project.settings.bus:
                self.stop()
                try:
                    self.start(names)
                except MechaError:
                    self._project = before
                    self.start(names)
                    raise
                return
            for name in names:
                if _settings_of(before, name) != _settings_of(project, name):
                    self._let_go(self._run, name)
                    self._take_in(self._run, name)

    def restart(self, name: str, reason: str = ASKED) -> None:
        """Stop a node in order and start it again, one that has ended or failed too.

        Raises:
            NotFoundError: no such node is to run here.
        """
        self._supervisor_of(name).restart(name, reason)

    def pause(self, name: str) -> None:
        """Hold a node between two steps. Raises as `restart`."""
        self._supervisor_of(name).pause(name)

    def resume(self, name: str) -> None:
        """Let a node step again. Raises as `restart`."""
        self._supervisor_of(name).resume(name)

    def control(self, message: ControlMessage) -> None:
        """Send a command to the detectors; it holds until their config.json says something else.

        Raises:
            NodeError: the bus is not open.
        """
        payload, attachment = message.encode()
        self.bus.publish(CONTROL_TOPIC, payload, attachment)

    # One life

    def _opened(self, names: tuple[str, ...]) -> _Run:
        run = _Run(names)
        run.thread = threading.Thread(target=self._live, args=(run,), name="nodes", daemon=True)
        run.thread.start()
        run.up.wait()
        if run.fault is not None:
            raise run.fault
        for name in names:
            self._watch(run, name)
        return run

    def _live(self, run: _Run) -> None:
        # All of it in one thread: the system kills nodes with the thread that started them.
        place = BusPlace(self._project.root, self._environ)
        try:
            with ExitStack() as held:
                run.bus, run.endpoint = held.enter_context(place.hosted(self._project.settings.bus))
                run.supervisor = Supervisor(
                    self._project.root,
                    {name: self._environ_of(run, name) for name in run.names},
                    on_line=self._on_line,
                    on_event=self._on_event,
                    on_exit=place.forget,
                    settings=self._project.settings.nodes,
                    stop_deadline_s=self._options.stop_deadline_s,
                    until_stopped=True,
                )
                run.up.set()
                run.supervisor.run()
                for watch in run.watches.values():
                    watch.__exit__(None, None, None)
        except MechaError as error:
            run.fault = error
        finally:
            run.up.set()

    def _take_in(self, run: _Run, name: str) -> None:
        _of(run.supervisor).add(name, self._environ_of(run, name), _settings_of(self._project, name))
        self._watch(run, name)

    def _let_go(self, run: _Run, name: str) -> None:
        watch = run.watches.pop(name, None)
        if watch is not None:
            watch.__exit__(None, None, None)
        _of(run.supervisor).remove(name)

    def _watch(self, run: _Run, name: str) -> None:
        supervisor = _of(run.supervisor)
        run.watches[name] = CodeWatch(
            self._project,
            {name: self._environ_of(run, name)},
            on_proven=lambda node: supervisor.restart(node, CODE_CHANGED),
            on_fault=lambda node, fault: supervisor.say(node, "ERROR", fault),
            deadline_s=lambda node: _settings_of(self._project, node).ready_s,
        ).__enter__()

    def _environ_of(self, run: _Run, name: str) -> dict[str, str]:
        return node_environ(self._project, name, run.endpoint, self._options, self._environ)

    def _running(self) -> "_Running":
        with self._lock:
            run = self._run
        if run is None or run.bus is None or run.supervisor is None:
            raise NodeError("no nodes run here just now: the daemon begins or ends", hint="Try again in a moment.")
        return _Running(run.bus, run.supervisor)

    def _supervisor_of(self, name: str) -> Supervisor:
        names = self.names
        if name not in names:
            known = f"The nodes that run are {alternatives(names)}." if names else ""
            raise NotFoundError(f'no node "{name}" runs here{did_you_mean(name, names)}', hint=known)
        return self._running().supervisor


@dataclass(frozen=True, slots=True)
class _Running:
    bus: Bus
    supervisor: Supervisor


def _of(supervisor: Supervisor | None) -> Supervisor:
    if supervisor is None:
        raise RuntimeError("a run that is open has a supervisor")
    return supervisor


def _settings_of(project: Project, name: str) -> NodeSettings:
    return project.settings.nodes.get(name, NodeSettings())
