"""Brings the models that nodes need: which is due, what is tried again and when, and what came of it."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mecha.daemon.agenda import Agenda
from mecha.daemon.needs import CATALOG, LOCK, Needs
from mecha.daemon.pull_aside import PullJob, pull_aside
from mecha.daemon.pulling import StoppedError, ToldPull
from mecha.daemon.retries import LONGEST_REST_S, Patience, Task, moment_in, rest_s
from mecha.daemon.state import DaemonState
from mecha.errors import BusyError, MechaError, NotFoundError
from mecha.progress import Progress, licence_of, silent
from mecha.service.models import ModelService
from mecha.service.request import PullOptions

if TYPE_CHECKING:
    from mecha.service.report import PullReport

_HOLDING = frozenset({CATALOG, LOCK})
"""Nothing can be pulled while these cannot be read."""
_LEAVE_S = 1.0


class Supply:
    """One thread that brings one model after the other. Its methods may be called from any thread.

    Args:
        environ: of this process.
        state: where it is told.
        log: called with a level and a text.
        patience: when what failed is tried again.
        on_usable: called with the name of a model that is there now, or still; from the thread that brought it.
    """

    def __init__(
        self,
        needs: Needs,
        service: ModelService,
        environ: Mapping[str, str],
        state: DaemonState,
        *,
        log: Callable[[str, str], None],
        patience: Patience,
        on_usable: Callable[[str], None],
    ) -> None:
        self._needs = needs
        self._service = service
        self._environ = environ
        self._state = state
        self._log = log
        self._patience = patience
        self._on_usable = on_usable
        self._agenda = Agenda()
        # Held for no longer than a look takes, and never while anybody else is called who has a lock of his own.
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._work, name="supply", daemon=True)

    @property
    def alive(self) -> bool:
        """Its thread does its work."""
        return self._worker.is_alive()

    @property
    def idle(self) -> bool:
        """No model is worked on, and none waits for its next try."""
        with self._lock:
            return not self._agenda.moments()

    def start(self) -> None:
        """Begin to bring models."""
        self._worker.start()

    def leave(self) -> None:
        """Begin nothing any more, and end what is under way soon."""
        self._stopping.set()
        self._wake.set()

    def stop(self) -> None:
        """End its thread."""
        self.leave()
        if self._worker.is_alive():
            self._worker.join(_LEAVE_S)

    def follow(self, needs: Needs, service: ModelService, *, changed: bool) -> None:
        """Take over what is needed now.

        Args:
            service: for the project of these needs.
            changed: what had failed is tried again.
        """
        with self._lock:
            self._needs, self._service = needs, service
            gone = self._agenda.follow(needs.wanted, changed=changed, now_s=time.monotonic())
        for name in gone:
            self._state.forget_model(name)
        for name in needs.wanted:
            usable = service.store.published(name) is not None
            self._state.set_model(name, wanted_by=needs.wanted_by(name), usable=usable)
        self._wake.set()

    def pull(self, name: str, options: PullOptions | None = None, progress: Progress = silent) -> "PullReport":
        """Pull a model as `ModelService.pull` does, and tell of it; for those who ask by hand.

        Raises:
            MechaError: as `ModelService.pull`.
            BusyError: the daemon ends.
        """
        with self._lock:
            task = self._agenda.get(name) or Task(name)
        try:
            return self._pulled(task, options or PullOptions(), progress)
        except StoppedError as stopped:
            raise BusyError(
                f"pull of {name}: the daemon ends", hint="Pull again; it goes on where it was."
            ) from stopped
        finally:
            self._forget_unneeded(name)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            task = self._next()
            if task is not None:
                self._bring(task)
                continue
            self._wake.wait(self._rest_s())

    def _next(self) -> Task | None:
        """Return what is due; first what needs no work, and so no network."""
        with self._lock:
            held = self._needs.faults.keys() & _HOLDING
            tasks = list(self._agenda) if held else self._agenda.due(time.monotonic())
            needs, store = self._needs, self._service.store
        if held:
            self._hold(needs, tasks)
            return None
        return min(tasks, key=lambda task: store.published(task.name) is None, default=None)

    def _hold(self, needs: Needs, tasks: list[Task]) -> None:
        """Say of models that nobody has looked at yet what they wait for."""
        why = next(text for what, text in needs.faults.items() if what in _HOLDING).splitlines()[0]
        for task in tasks:
            known = self._state.model(task.name)
            if known is not None and known.state == "absent":
                self._state.set_model(task.name, state="degraded" if known.usable else "absent", reason=why)

    def _rest_s(self) -> float:
        with self._lock:
            if self._needs.faults.keys() & _HOLDING:
                return LONGEST_REST_S
            return rest_s(self._agenda.moments())

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
        finally:
            self._forget_unneeded(task.name)

    def _forget_unneeded(self, name: str) -> None:
        """Say nothing of a model that did not come and that no node needs, or needs any more."""
        with self._lock:
            needed, store = self._agenda.get(name) is not None, self._service.store
        if not needed and store.published(name) is None:
            self._state.forget_model(name)

    def _verify(self, task: Task) -> None:
        """Read the files of a model once: what happened to them while nothing ran is not seen otherwise."""
        with self._lock:
            service = self._service
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
            store = self._service.store
        if store.published(task.name) is not None and not self._stopping.is_set():
            self._state.set_model(task.name, usable=True)
            self._on_usable(task.name)
