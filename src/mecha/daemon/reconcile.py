"""Keeps a project as its files describe it: has what nodes need brought, runs the nodes, and follows the files.

Nothing is removed here. What a file says counts when all of it can be read; until then what runs goes on.
"""

import threading
from collections.abc import Callable, Mapping

from mecha.daemon.needs import Needs, read_files, read_needs, written_files
from mecha.daemon.nodes import Nodes
from mecha.daemon.retries import Patience, rest_s
from mecha.daemon.revival import Revival
from mecha.daemon.state import DaemonState
from mecha.daemon.supply import Supply
from mecha.daemon.wanted_nodes import WantedNodes
from mecha.errors import MechaError
from mecha.project import Project
from mecha.runtime.watch import FileWatch
from mecha.service.models import ModelService

REMEDY = "What runs goes on with what was read before; correct the file and save it."
_BUS = "bus"
_FAULTY_REST_S = 1.0
_LEAVE_S = 1.0


class Reconciler:
    """Reads files as they change, and sees after nodes that were given up; a `Supply` brings the models.

    Its methods may be called from any thread.

    Args:
        project: to keep.
        environ: of this process.
        state: where it is told; nodes: what runs them.
        log: called with a level and a text.
        patience: when what failed is tried again.

    Attributes:
        supply: brings what nodes need, and what is asked for by hand.
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
        patience = patience or Patience()
        # Taken before the lock of the supply, never within it.
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._needs = Needs(project, None, {}, {})
        self._service = ModelService(project, environ)
        self._wanted_nodes = WantedNodes(state, nodes)
        self._revival = Revival(state, nodes, patience, log)
        self.supply = Supply(
            self._needs, self._service, environ, state, log=log, patience=patience, on_usable=self._usable
        )
        # What a pull writes itself is no reason to try again what has failed.
        self._watches = (
            FileWatch(lambda: read_files(self._needs), lambda _: self.look()),
            FileWatch(lambda: written_files(self._needs), lambda _: self.look(again=False)),
        )
        self._noticed = threading.Event()
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
        return self.supply.alive and self._keeper.is_alive()

    def service(self) -> ModelService:
        """Return the service, for the settings that were valid last."""
        with self._lock:
            return self._service

    def start(self) -> None:
        """Read the files, start the nodes that can be started, and begin to watch and to bring models."""
        self.look()
        for watch in self._watches:
            watch.start()
        self.supply.start()
        self._keeper.start()

    def leave(self) -> None:
        """Begin nothing any more, and no node: once this returns, none is started."""
        with self._lock:
            self._stopping.set()
        self.supply.leave()
        self._noticed.set()

    def stop(self) -> None:
        """End its threads. A build that says nothing just now is left, and ends with this process."""
        self.leave()
        for watch in self._watches:
            watch.stop()
        self.supply.stop()
        if self._keeper.is_alive():
            self._keeper.join(_LEAVE_S)

    def look(self, *, again: bool = True) -> None:
        """Read all files now.

        Args:
            again: what had failed is tried again, as after a change.
        """
        with self._lock:
            needs = read_needs(self._needs.project, self._environ, self._needs)
            self._follow(needs, changed=again or needs != self._needs)
        self._noticed.set()

    def nudge(self) -> None:
        """See after the nodes: one has changed its state."""
        self._noticed.set()

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
        self.supply.follow(needs, self._service, changed=changed)
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

    # What comes of the work

    def _usable(self, name: str) -> None:
        """A model is there: nodes that waited for it can be started, and those that failed without it."""
        with self._lock:
            if not self._stopping.is_set():
                self._revival.soon(self._needs.wanted_by(name))
                self._wanted_nodes.follow(self._needs, self._service.store)

    def _keep(self) -> None:
        while not self._stopping.is_set():
            if self._needs.faults:
                # One that was read while its file was being written is seen by no watch: it ended as it had begun.
                self.look(again=False)
            self._noticed.clear()
            self._revival.turn()
            self._wanted_nodes.forget_gone(self._needs)
            rest = rest_s(self._revival.moments())
            self._noticed.wait(min(rest, _FAULTY_REST_S) if self._needs.faults else rest)
