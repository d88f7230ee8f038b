"""What the daemon knows of its models and nodes just now. Knows nothing of HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from threading import Lock
from typing import Any, Literal, get_args

from mecha.redaction import redacted

ModelState = Literal["absent", "pulling", "verifying", "quantizing", "gating", "ready", "degraded"]
MODEL_STATES: tuple[ModelState, ...] = get_args(ModelState)
"""`absent`: there is nothing to run. `ready`: what the catalog asks for is there. `degraded`: it runs, with less."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model that a node needs, or that somebody pulls.

    Attributes:
        state: see MODEL_STATES.
        reason: why it is absent or degraded, and when it is tried again; "" when all is well.
        stage: of the work that goes on, as `mecha.progress` names it; "" when there is none.
        completed: of that stage, in its unit; total: the same, None while nobody knows.
        wanted_by: names of the nodes whose config names it.
        usable: it is published, and runs; also while INT8 is still being made.
        tries: that failed in a row.
        retry_at: when it is tried again, ISO 8601, UTC; None where nothing failed, or only a changed file would help.
    """

    name: str
    state: ModelState = "absent"
    reason: str = ""
    stage: str = ""
    completed: int = 0
    total: int | None = None
    wanted_by: tuple[str, ...] = ()
    usable: bool = False
    tries: int = 0
    retry_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it with the keys of its attributes."""
        return {**asdict(self), "wanted_by": list(self.wanted_by)}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node, as its supervisor told last.

    Attributes:
        state: see `mecha.runtime.surroundings.STATES`; "waiting" for one that waits for its model.
        pid: of its process, None where it has none.
        restarts: how many processes came after another one.
        reason: why it is in this state; "" when all is well.
        stats: the keys of its last "stats" event but "event" and "node"; None before the first.
        swaps: how often another precision, model or option came to run.
        last_error: what it logged as an error last; "" for nothing.
    """

    name: str
    state: str
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    stats: Mapping[str, Any] | None = None
    swaps: int = 0
    last_error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it with the keys of its attributes."""
        return {name: getattr(self, name) for name in self.__slots__}


class DaemonState:
    """Models, nodes and faults, without secrets. Used from any thread.

    Args:
        publish: gets a "model" event for each change of a model, in the thread that makes it.
    """

    def __init__(self, publish: Callable[[dict[str, Any]], None] = lambda event: None) -> None:  # noqa: ARG005 - nobody asks
        self._publish = publish
        self._lock = Lock()
        self._models: dict[str, ModelStatus] = {}
        self._nodes: dict[str, NodeStatus] = {}
        self._faults: dict[str, str] = {}
        self._mirror_fault = ""

    # Models

    def models(self) -> tuple[ModelStatus, ...]:
        """Return all models, by name."""
        with self._lock:
            return tuple(self._models[name] for name in sorted(self._models))

    def model(self, name: str) -> ModelStatus | None:
        """Return one model, None where nobody needs or pulls it."""
        with self._lock:
            return self._models.get(name)

    def set_model(self, name: str, **changes: Any) -> ModelStatus:  # noqa: ANN401 - the attributes of ModelStatus
        """Change what is said of a model; one that was not there begins as absent."""
        if "reason" in changes:
            changes["reason"] = redacted(changes["reason"])
        with self._lock:
            before = self._models.get(name)
            now = replace(before or ModelStatus(name), **changes)
            self._models[name] = now
        if now != before:
            self._publish({"event": "model", **{key: getattr(now, key) for key in _OF_EVENT}})
        return now

    def forget_model(self, name: str) -> None:
        """Say nothing of a model any more: it was removed, or nobody needs it."""
        with self._lock:
            self._models.pop(name, None)

    # Nodes

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Return all nodes, by name."""
        with self._lock:
            return tuple(self._nodes[name] for name in sorted(self._nodes))

    def node(self, name: str) -> NodeStatus | None:
        """Return one node, None where there is no such one."""
        with self._lock:
            return self._nodes.get(name)

    def set_node(self, name: str, **changes: Any) -> NodeStatus:  # noqa: ANN401 - the attributes of NodeStatus
        """Change what is said of a node."""
        with self._lock:
            now = replace(self._nodes.get(name) or NodeStatus(name, "waiting"), **changes)
            self._nodes[name] = now
            return now

    def forget_node(self, name: str) -> None:
        """Say nothing of a node any more: the project has it no longer."""
        with self._lock:
            self._nodes.pop(name, None)
            self._faults.pop(_of_process(name), None)

    def take_event(self, event: Mapping[str, Any]) -> None:
        """Take in an event of a node or of its supervisor; see `mecha.runtime.events`."""
        name = event.get("node")
        if not isinstance(name, str):
            return
        kind = event["event"]
        if kind == "state":
            self.set_node(name, **{key: event[key] for key in ("state", "pid", "restarts", "reason")})
            if event["pid"] is None or event["state"] == "starting":
                self.set_fault(_of_process(name), "")
        elif kind == "config":
            self.set_fault(_of_process(name), event["fault"])
        elif kind == "stats":
            self.set_node(name, stats={key: value for key, value in event.items() if key not in {"event", "node"}})
        elif kind == "error":
            self.set_node(name, last_error=event["message"])
        elif kind == "swap":
            with self._lock:
                known = self._nodes.get(name) or NodeStatus(name, "waiting")
                self._nodes[name] = replace(known, swaps=known.swaps + 1)

    # Faults

    @property
    def catalog_fault(self) -> str:
        """What is wrong with catalog, lock, settings or a config that was saved last; "" when all are well.

        What runs goes on with what it had read before.
        """
        with self._lock:
            # A node and its daemon say the same of a file that neither can read.
            return "\n".join(dict.fromkeys(text for _, text in sorted(self._faults.items()) if text))

    def set_fault(self, source: str, text: str) -> None:
        """Say what is wrong with one of these files, "" for nothing; `source` tells it from the others."""
        with self._lock:
            self._faults[source] = redacted(text)

    @property
    def mirror_fault(self) -> str:
        """Why the last try to reach the Hub, or its mirror, failed; "" when it answered, or was not needed."""
        with self._lock:
            return self._mirror_fault

    def set_mirror_fault(self, text: str) -> None:
        """Say why the Hub cannot be reached, "" when it can."""
        with self._lock:
            self._mirror_fault = redacted(text)


def _of_process(node: str) -> str:
    """Return the source of faults that a node finds in its config, beside those that the daemon finds there itself."""
    return f"{node} itself"


_OF_EVENT = ("name", "state", "reason", "stage", "completed", "total")
