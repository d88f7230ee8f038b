"""Keeps a project as its files describe it: pulls what nodes need, runs the nodes, and follows the files.

Nothing is removed here. What a file says counts when all of it can be read; until then what runs goes on.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from mecha.daemon.agenda import Agenda
from mecha.daemon.needs import CATALOG, LOCK, Needs, read_files, read_needs, written_files
from mecha.daemon.nodes import Nodes
from mecha.daemon.pull_aside import PullJob, pull_aside
from mecha.daemon.pulling import StoppedError, ToldPull
from mecha.daemon.retries import Patience, Task, moment_in
from mecha.daemon.revival import Revival
from mecha.daemon.state import DaemonState
from mecha.daemon.wanted_nodes import WantedNodes
from mecha.errors import BusyError, MechaError, NotFoundError
from mecha.progress import Progress, licence_of, silent
from mecha.project import Project
from mecha.runtime.watch import FileWatch
from mecha.service.models import ModelService
from mecha.service.request import PullOptions

if TYPE_CHECKING:
    from mecha.service.report import PullReport

REMEDY = "What runs goes on with what was read before; correct the file and save it."
_HOLDING = frozenset({CATALOG, LOCK})
"""Nothing can be pulled while these cannot be read."""
_BUS = "bus"
_REST_S = 0.2
_LONGEST_REST_S = 60.0
_FAULTY_REST_S = 1.0
_LEAVE_S = 1.0


class Reconciler:
    """Three threads: one reads files as they change, one brings models, one sees after nodes that were given up.

    Its methods may be called from any thread.

    Args:
        project: to keep.
        environ: of this process.
        state: where it is told; nodes: what runs them.
        log: called with a level and a text.
        patience: when what failed is tried again.
    """

    def __init__(
        self,
        project: Project,
        environ: Mapping[str, str],
        state: DaemonState,
        nodes: Nodes,
        *,
        log: Callable[[str, str], None],
        patience: Patience | None = None,
    ) -> None:
        self._environ = environ
        self._state = state
        self._nodes = nodes
        self._log = log
        self._patience = patience or Patience()
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._needs = Needs(project, None, {}, {})
        self._service = ModelService(project, environ)
        self._wanted_nodes = WantedNodes(state, nodes)
        self._agenda = Agenda()
        self._revival = Revival(state, nodes, self._patience, log)
        # What a pull writes itself is no reason to try again what has failed.
        self._watches = (
            FileWatch(lambda: read_files(self._needs), lambda _: self.look()),
            FileWatch(lambda: written_files(self._needs), lambda _: self.look(again=False)),
        )
        self._noticed = threading.Event()
        self._worker = threading.Thread(target=self._work, name="reconcile", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="revive", daemon=True)

    # From any thread

    @property
    def project(self) -> Project:
        """The project, with the settings that were valid last."""
        with self._lock:
            return self._needs.project

    @property
    def alive(self) -> bool:
        """Its threads do their work."""
        return self._worker.is_alive() and self._keeper.is_alive()

    @property
    def idle(self) -> bool:
        """No model is worked on, and none waits for its next try."""
        with self._lock:
            return self._agenda.idle

    def service(self) -> ModelService:
        """Return the service, for the settings that were valid last."""
        with self._lock:
            return self._service

    def start(self) -> None:
        """Read the files, start the nodes that can be started, and begin to watch and to bring models."""
        self.look()
        for watch in self._watches:
            watch.start()
        self._worker.start()
        self._keeper.start()

    def leave(self) -> None:
        """Begin nothing any more, and no node: once this returns, none is started."""
        with self._lock:
            self._stopping.set()
        self._wake.set()
        self._noticed.set()

    def stop(self) -> None:
        """End its threads. A build that says nothing just now is left, and ends with this process."""
        self.leave()
        for watch in self._watches:
            watch.stop()
        for thread in (self._worker, self._keeper):
            if thread.is_alive():
                thread.join(_LEAVE_S)

    def look(self, *, again: bool = True) -> None:
        """Read all files now.

        Args:
            again: what had failed is tried again, as after a change.
        """
        with self._lock:
            needs = read_needs(self._needs.project, self._environ, self._needs)
            self._follow(needs, changed=again or needs != self._needs)
        self._wake.set()
        self._noticed.set()

    def nudge(self) -> None:
        """See after the nodes: one has changed its state."""
        self._noticed.set()

    def pull(self, name: str, options: PullOptions | None = None, progress: Progress = silent) -> "PullReport":
        """Pull a model as `ModelService.pull` does, and tell of it; for those who ask by hand.

        Raises:
            MechaError: as `ModelService.pull`.
            BusyError: the daemon ends.
        """
        with self._lock:
            needed = self._agenda.get(name)
        task = needed or Task(name)
        try:
            return self._pulled(task, options or PullOptions(), progress)
        except StoppedError as stopped:
            raise BusyError(
                f"pull of {name}: the daemon ends", hint="Pull again; it goes on where it was."
            ) from stopped
        except MechaError:
            if needed is None and self.service().store.published(name) is None:
                self._state.forget_model(name)
            raise

    # The files

    def _follow(self, needs: Needs, *, changed: bool) -> None:
        """Take over what was read."""
        if self._stopping.is_set():
            return
        before, self._needs = self._needs, needs
        self._tell_faults(before.faults, needs.faults)
        if needs.project != before.project:
            self._service = ModelService(needs.project, self._environ)
            self._state.set_fault(_BUS, "")
            try:
                self._nodes.reload(needs.project)
            except MechaError as error:
                self._state.set_fault(_BUS, str(error))
                self._log("ERROR", f"{error}\n{REMEDY}")
        for name in self._agenda.follow(needs.wanted, changed=changed, now_s=time.monotonic()):
            self._state.forget_model(name)
        for name in needs.wanted:
            usable = self._service.store.published(name) is not None
            self._state.set_model(name, wanted_by=needs.wanted_by(name), usable=usable)
        if changed:
            self._revival.soon(needs.models)
        self._wanted_nodes.follow(self._needs, self._service.store)

    def _tell_faults(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        for what in sorted(before.keys() | now.keys()):
            text = now.get(what, "")
            self._state.set_fault(what, text)
            if text and text != before.get(what):
                for line in (*text.splitlines(), REMEDY):
                    self._log("ERROR", line)
            elif not text:
                self._log("INFO", f"{what}: can be read again")

    # The work

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            task = self._next()
            if task is not None:
                self._bring(task)
                continue
            self._wake.wait(self._rest_s())

    def _keep(self) -> None:
        while not self._stopping.is_set():
            if self._needs.faults:
                # One that was read while its file was being written is seen by no watch: it ended as it had begun.
                self.look(again=False)
            self._noticed.clear()
            self._revival.turn()
            self._wanted_nodes.forget_gone(self._needs)
            rest_s = _rest_s(self._revival.moments())
            self._noticed.wait(min(rest_s, _FAULTY_REST_S) if self._needs.faults else rest_s)

    def _next(self) -> Task | None:
        with self._lock:
            if self._needs.faults.keys() & _HOLDING:
                self._hold()
                return None
            store = self._service.store
            return self._agenda.next_due(time.monotonic(), lambda name: store.published(name) is not None)

    def _hold(self) -> None:
        """Say of models that nobody has looked at yet what they wait for."""
        why = next(text for what, text in self._needs.faults.items() if what in _HOLDING).splitlines()[0]
        for task in self._agenda:
            known = self._state.model(task.name)
            if known is not None and known.state == "absent":
                self._state.set_model(task.name, state="degraded" if known.usable else "absent", reason=why)

    def _rest_s(self) -> float:
        with self._lock:
            if self._needs.faults.keys() & _HOLDING:
                return _LONGEST_REST_S
            return _rest_s(self._agenda.moments())

    def _bring(self, task: Task) -> None:
        before = self._state.model(task.name)
        try:
            self._verify(task)
            self._pulled(task, PullOptions(), silent)
        except StoppedError:
            pass
        except MechaError as error:
            known = self._state.model(task.name)
            if known is not None and known.reason and (before is None or before.reason != known.reason):
                self._log("ERROR", f"{task.name}: {error}")

    def _verify(self, task: Task) -> None:
        """Read the files of a model once: what happened to them while nothing ran is not seen otherwise."""
        service = self.service()
        if task.verified or service.store.published(task.name) is None:
            return
        task.verified = True
        self._state.set_model(task.name, state="verifying", stage="verify")
        try:
            faults = service.verify(task.name)
        except MechaError as error:
            self._take_failure(task, error, task.changes)
            raise
        for fault in faults:
            self._log("WARNING", f"{task.name}: {fault.file}: got {fault.got}; expected {fault.expected}")

    def _pulled(self, task: Task, options: PullOptions, progress: Progress) -> "PullReport":
        """Pull, and tell what came of it."""
        with self._lock:
            service, changes = self._service, task.changes

        def on_stage(stage: str) -> None:
            if (told := licence_of(stage)) is not None:
                self._log("INFO", f"licence of {told[0]}: {told[1]}")
                return
            self._log("INFO", f"{task.name}: {stage}")
            self._see(task)

        told = ToldPull(task.name, self._state, progress, on_stage=on_stage, is_over=self._stopping.is_set)
        try:
            report = (options == PullOptions() and service.completed(task.name)) or None
            if report is None:
                self._state.set_model(task.name, state="pulling", reason="", stage="resolve", completed=0, total=None)
                job = PullJob(service.project, task.name, options)
                report = pull_aside(job, self._environ, told, is_over=self._stopping.is_set)
        except StoppedError as stopped:
            if self._stopping.is_set():
                raise
            left = BusyError(f"pull of {task.name}: whoever asked for it has left")
            self._take_failure(task, left, changes)
            raise left from stopped
        except MechaError as error:
            self._take_failure(task, error, changes)
            raise
        self._take_report(task, report, changes)
        return report

    def _take_report(self, task: Task, report: "PullReport", changes: int) -> None:
        pause_s = None
        fault = report.int8_fault or ""
        with self._lock:
            now_s = time.monotonic()
            if fault:
                pause_s = task.fail_build(self._patience, now_s)
            else:
                task.succeed()
            if task.changes != changes:
                task.due_s = now_s
            tries = task.tries
        if fault or report.changed:
            self._log("WARNING" if fault else "INFO", f"{task.name}: {fault or report.message or 'pulled'}")
        reason = f"INT8 could not be made: {fault}" if fault else ""
        self._settle(task.name, reason, usable=True, tries=tries, pause_s=pause_s)
        self._see(task)

    def _take_failure(self, task: Task, error: MechaError, changes: int) -> None:
        with self._lock:
            now_s = time.monotonic()
            usable = self._service.store.published(task.name) is not None
            known = self._needs.catalog is None or task.name in self._needs.catalog
            # Published, and of no catalog: it is as somebody brought it, and nothing says what else it should be.
            whole = isinstance(error, NotFoundError) and usable and not known
            pause_s = None if whole else task.fail(error, self._patience, now_s)
            if whole:
                task.succeed()
            if task.changes != changes:
                task.due_s = now_s
            tries = task.tries
        self._settle(task.name, "" if whole else str(error), usable=usable, tries=tries, pause_s=pause_s)

    def _settle(self, name: str, reason: str, *, usable: bool, tries: int, pause_s: float | None) -> None:
        """Tell what came of a try: nothing is worked on now."""
        self._state.set_model(
            name,
            state="absent" if not usable else "degraded" if reason else "ready",
            reason=reason,
            stage="",
            completed=0,
            total=None,
            usable=usable,
            tries=tries,
            retry_at=moment_in(pause_s),
        )
        with self._lock:
            fault = self._agenda.mirror_fault
        self._state.set_mirror_fault(fault)

    def _see(self, task: Task) -> None:
        """A model may be there now: nodes that waited for it can be started, and those that failed without it."""
        with self._lock:
            usable = self._service.store.published(task.name) is not None
            if usable and not self._stopping.is_set():
                self._state.set_model(task.name, usable=True)
                self._revival.soon(self._needs.wanted_by(task.name))
                self._wanted_nodes.follow(self._needs, self._service.store)


def _rest_s(moments: Iterable[float]) -> float:
    """Return how long there is nothing to do, where something is to be done at these moments."""
    now_s = time.monotonic()
    return max(_REST_S, min([_LONGEST_REST_S, *(due_s - now_s for due_s in moments)]))
