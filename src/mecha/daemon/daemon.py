"""The daemon of a project: owns its state, its events, its nodes, and what reconciles them."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from mecha import __version__
from mecha.daemon.events import EventHub
from mecha.daemon.nodes import Nodes
from mecha.daemon.place import DaemonPlace
from mecha.daemon.reconcile import Reconciler
from mecha.daemon.retries import Patience
from mecha.daemon.state import DaemonState
from mecha.errors import BusyError
from mecha.progress import Progress, silent
from mecha.project import Project
from mecha.redaction import redacted
from mecha.runtime.events import prefixed
from mecha.service.models import ModelService
from mecha.service.request import PullOptions
from mecha.store.locks import exclusive, holder

if TYPE_CHECKING:
    from mecha.service.report import PullReport

NAME = "daemon"
"""What lines of its own begin with, as those of a node with its name."""
_AT_WORK = frozenset({"running", "paused", "ended"})


class Readiness(NamedTuple):
    """Whether the daemon does what it is for, and why not."""

    ok: bool
    why: str


class Daemon:
    """Keeps a project as its catalog, lock, settings and configs describe it.

    Args:
        project: one runs in each.
        environ: of this process.
        on_line: gets every line of the log, its own and the nodes', without secrets.
        patience: when what failed is tried again.

    Attributes:
        state: what is known of models, nodes and faults.
        events: what happens.
        nodes: what runs.
        reconciler: what brings models and follows the files.
        place: where it is found.
    """

    def __init__(
        self,
        project: Project,
        environ: Mapping[str, str],
        *,
        on_line: Callable[[str], None] = lambda line: None,  # noqa: ARG005 - nobody asks
        patience: Patience | None = None,
    ) -> None:
        self.environ = environ
        self.place = DaemonPlace(project.root, environ)
        self.events = EventHub()
        self.state = DaemonState(self.events.publish)
        self._on_line = on_line
        self.nodes = Nodes(project, environ, on_line=self._take_line, on_event=self._take_event)
        self.reconciler = Reconciler(project, environ, self.state, self.nodes, log=self.log, patience=patience)
        self._held = ExitStack()
        self._lock = threading.Lock()
        self._phase = "new"
        self.started_at: datetime | None = None
        self._started_s = 0.0

    @property
    def project(self) -> Project:
        """The project, with the settings that were valid last."""
        return self.reconciler.project

    @property
    def running(self) -> bool:
        """It was started and is not to end yet."""
        return self._phase == "running"

    def service(self) -> ModelService:
        """Return the service of the project, for the settings that were valid last."""
        return self.reconciler.service()

    def start(self) -> None:
        """Take the project, start its nodes, and begin to reconcile. Returns before models are there.

        Raises:
            BusyError: a daemon, or `mecha dev`, runs in this project.
            MechaError: the bus cannot be opened.
        """
        self.place.make()
        with ExitStack() as undo:
            try:
                undo.enter_context(exclusive(self.place.lock_file, timeout_s=0, doing="daemon"))
            except BusyError as error:
                raise self._already_runs() from error
            self.nodes.start(())
            undo.callback(self.nodes.stop)
            self.started_at, self._started_s = datetime.now(UTC), time.monotonic()
            self._phase = "running"
            self.log("INFO", f"mecha {__version__} keeps {self.project.root}")
            self.reconciler.start()
            self._held = undo.pop_all()

    def stop(self, deadline_s: float = 5.0) -> None:
        """Stop the nodes in order and give the project back. Stopping twice is allowed.

        Args:
            deadline_s: nodes that have not ended some time before that are killed.
        """
        with self._lock:
            if self._phase != "running":
                return
            self._phase = "stopping"
        self.log("INFO", "ends")
        self.reconciler.leave()
        self.nodes.stop(max(0.1, deadline_s - 1.5))
        self.reconciler.stop()
        self._held.close()
        self.events.close()
        self._phase = "stopped"

    def reload(self) -> None:
        """Read all files again, and try again what has failed."""
        self.log("INFO", "reads its files again")
        self.reconciler.look()

    @property
    def ready(self) -> Readiness:
        """Every model that is needed can be used, and every node does its work; and why not, in a sentence."""
        if self._phase != "running":
            return Readiness(False, {"new": "the daemon begins"}.get(self._phase, "the daemon ends"))
        if not self.alive:
            return Readiness(False, "a part of the daemon has ended: see its log")
        missing = [f"{model.name} is {model.state}: {model.reason or model.stage}" for model in self.state.models()
                   if model.wanted_by and not model.usable]  # fmt: skip
        idle = [f"{node.name} is {node.state}{f': {node.reason}' if node.reason else ''}" for node in self.state.nodes()
                if node.state not in _AT_WORK]  # fmt: skip
        faults = [self.state.catalog_fault] if missing and self.state.catalog_fault else []
        why = "; ".join([*faults, *missing, *idle])
        return Readiness(not (missing or idle), why)

    @property
    def alive(self) -> bool:
        """All its threads do their work: what the watchdog of the system asks."""
        return self.reconciler.alive and self.nodes.alive

    def pull(self, name: str, options: PullOptions | None = None, progress: Progress = silent) -> "PullReport":
        """Pull a model, told in the state as any other pull.

        Raises:
            MechaError: as `ModelService.pull`; BusyError: the daemon ends.
        """
        return self.reconciler.supply.pull(name, options, progress)

    def remove(self, name: str) -> None:
        """Remove a model that no configured node runs.

        Raises:
            BusyError: a node runs it.
            NotFoundError: it is not pulled.
        """
        known = self.state.model(name)
        if known is not None and known.wanted_by:
            nodes = ", ".join(known.wanted_by)
            raise BusyError(
                f"{name} is run by {nodes}: it is not removed",
                hint=f"Give the config.json of {nodes} another model first.",
            )
        self.service().remove(name)
        self.state.forget_model(name)

    def status(self) -> dict[str, Any]:
        """Return what `mecha daemon status --json` writes."""
        ready = self.ready
        return {
            "schema": 1,
            "running": True,
            "pid": os.getpid(),
            "version": __version__,
            "project": str(self.project.root),
            "environment": self.project.environment,
            "started_at": self.started_at.isoformat(timespec="seconds") if self.started_at else None,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "ready": ready.ok,
            "why": ready.why,
            "catalog_fault": self.state.catalog_fault,
            "mirror_fault": self.state.mirror_fault,
            "models": [model.to_json() for model in self.state.models()],
            "nodes": [node.to_json() for node in self.state.nodes()],
        }

    def log(self, level: str, text: str) -> None:
        """Write lines of its own to the log."""
        for line in prefixed(level, NAME, text).splitlines():
            self._take_line(line)

    def _take_line(self, line: str) -> None:
        line = redacted(line)
        self.events.log(line)
        self._on_line(line)

    def _take_event(self, event: dict[str, Any]) -> None:
        self.state.take_event(event)
        self.events.publish(event)
        if event["event"] == "state":
            self.reconciler.nudge()

    def _already_runs(self) -> BusyError:
        by = holder(self.place.lock_file)
        who = "another process" if by is None else f"process {by.pid}"
        return BusyError(
            f"the daemon of this project runs already: {who} keeps {self.project.root}",
            hint="`mecha daemon status` tells what it does, `mecha daemon stop` ends it.",
        )
