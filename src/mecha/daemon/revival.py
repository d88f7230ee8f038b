"""Nodes that their supervisor gave up, started again after a while: what they lacked may be there by then."""

import threading
import time
from collections.abc import Callable, Iterable

from mecha.daemon.nodes import Nodes
from mecha.daemon.retries import Patience
from mecha.daemon.state import DaemonState
from mecha.errors import NodeError, NotFoundError

_NEVER = -1


class Revival:
    """Used from any thread.

    Args:
        state: tells which nodes have failed.
        nodes: starts them again.
        patience: how long to wait.
        log: called with a level and a text.
    """

    def __init__(self, state: DaemonState, nodes: Nodes, patience: Patience, log: Callable[[str, str], None]) -> None:
        self._state = state
        self._nodes = nodes
        self._patience = patience
        self._log = log
        self._lock = threading.Lock()
        # How often each was started again in a row, and when it is next.
        self._known: dict[str, tuple[int, float]] = {}

    def soon(self, names: Iterable[str]) -> None:
        """Start those that have failed again at once: something that they need has changed."""
        now_s = time.monotonic()
        with self._lock:
            self._known |= {name: (0, now_s) for name in names if self._has_failed(name)}

    def moments(self) -> tuple[float, ...]:
        """Return when there is something to do, on the monotonic clock."""
        with self._lock:
            return tuple(at_s for _, at_s in self._known.values())

    def turn(self) -> None:
        """Start again what is due."""
        for name in self._due():
            try:
                self._nodes.restart(name, "it had failed")
            except (NodeError, NotFoundError) as error:
                self._log("WARNING", f"{name}: {error}")

    def _due(self) -> list[str]:
        now_s, patience = time.monotonic(), self._patience
        due: list[str] = []
        with self._lock:
            names = self._nodes.names
            self._known = {name: known for name, known in self._known.items() if name in names}
            for name in names:
                tries, at_s = self._known.get(name, (_NEVER, 0.0))
                if not self._has_failed(name):
                    if now_s > at_s:
                        # It has been well for as long as the next try would have been away.
                        self._known.pop(name, None)
                elif now_s >= at_s:
                    pause_s = patience.pause_s(tries + 2, patience.node_first_s, patience.node_longest_s)
                    self._known[name] = (tries + 1, now_s + pause_s)
                    due += [name] if tries != _NEVER else []
        return due

    def _has_failed(self, name: str) -> bool:
        node = self._state.node(name)
        return node is not None and node.state == "failed"
