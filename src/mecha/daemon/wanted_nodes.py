"""Which nodes of a project run: all that have what they need."""

from mecha.daemon.needs import Needs
from mecha.daemon.nodes import Nodes
from mecha.daemon.state import DaemonState
from mecha.store.models import ModelStore

_AWAY = frozenset({"ended", "failed", "waiting"})


class WantedNodes:
    """Used under the lock of the reconciler, `forget_gone` apart.

    Args:
        state: where it is told which of them wait.
        nodes: runs them.
    """

    def __init__(self, state: DaemonState, nodes: Nodes) -> None:
        self._state = state
        self._nodes = nodes

    def follow(self, needs: Needs, store: ModelStore) -> None:
        """Run every node that has what it needs; one that runs already goes on whatever became of its model."""
        running = set(self._nodes.names)
        wanted = [node for node, model in needs.models.items() if node in running or _can_start(model, needs, store)]
        for node in needs.models:
            if self._state.node(node) is None or node not in (*running, *wanted):
                reason = "" if node in wanted else f"waits for {needs.models[node]}"
                self._state.set_node(node, state="waiting", reason=reason)
        if set(wanted) != running:
            self._nodes.start(wanted)

    def forget_gone(self, needs: Needs) -> None:
        """Say nothing any more of nodes that the project has no longer and that have ended."""
        for node in self._state.nodes():
            if node.name not in needs.models and node.state in _AWAY:
                self._state.forget_node(node.name)


def _can_start(model: str | None, needs: Needs, store: ModelStore) -> bool:
    """A model that no catalog has cannot come: then the node says itself what it lacks."""
    if model is None or store.published(model) is not None:
        return True
    return needs.catalog is not None and model not in needs.catalog
