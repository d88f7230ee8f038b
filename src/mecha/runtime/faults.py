"""Faults on request: what `mecha dev --fault` asks for, on which node, and when."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from mecha.errors import UsageError
from mecha.words import alternatives, did_you_mean, seconds

FAULTS_VARIABLE = "MECHA_FAULTS"
"""Holds the faults of one node, in the environment of its process: a JSON list."""
BEGAN_VARIABLE = "MECHA_BEGAN"
"""Holds when messages began to flow, seconds of the system's monotonic clock, for a process that is started later."""

_REQUEST = re.compile(r"(?P<kind>[^@:,]+)@(?P<at>[^:,]+)(?::(?P<length>[^:,]+))?(?:,node=(?P<node>[^,\s]+))?", re.ASCII)
_FORM = "KIND@AT[:FOR][,node=NAME], as in camera-drop@5s:3s"


@dataclass(frozen=True, slots=True)
class FaultKind:
    """What can be asked for.

    Attributes:
        node: that has it where nobody says another one.
        for_s: how long it lasts where nobody says, seconds; None has no end of its own.
        stops: the node itself stands still, and how long it does is told from the beginning of the fault.
        momentary: it is over as soon as it has come, so that a length makes no sense.
    """

    node: str
    for_s: float | None
    stops: bool = False
    momentary: bool = False


KINDS: Mapping[str, FaultKind] = {
    "camera-drop": FaultKind("camera", 3.0),
    "node-crash": FaultKind("object-detector", None, stops=True, momentary=True),
    "node-hang": FaultKind("object-detector", None, stops=True),
    "slow-inference": FaultKind("object-detector", 5.0),
    "bad-config": FaultKind("object-detector", 5.0),
    "disk-full": FaultKind("object-detector", 10.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a run.

    Attributes:
        request: as it was asked for.
        kind: one of KINDS.
        node: that has it.
        at_s: when it comes, seconds after messages began to flow.
        for_s: how long it lasts, seconds; None for a crash, and for a hang that never ends.
    """

    request: str
    kind: str
    node: str
    at_s: float
    for_s: float | None

    @classmethod
    def parsed(cls, request: str) -> Self:
        """Return what an option asks for.

        Raises:
            UsageError: it is no fault.
        """
        match = _REQUEST.fullmatch(request)
        if match is None:
            raise UsageError(f'--fault: got "{request}"; expected {_FORM}')
        kind = KINDS.get(match["kind"])
        if kind is None:
            raise UsageError(
                f'--fault {request}: got "{match["kind"]}"; expected {alternatives(tuple(KINDS))}'
                f"{did_you_mean(match['kind'], KINDS)}"
            )
        at_s, for_s = seconds(match["at"]), kind.for_s
        if at_s is None:
            raise UsageError(f'--fault {request}: got "{match["at"]}"; expected a time such as 5s, 2m or 0s')
        if match["length"] is not None:
            if kind.momentary:
                raise UsageError(f"--fault {request}: {match['kind']} takes no length; expected {match['kind']}@AT")
            for_s = seconds(match["length"])
            if not for_s:
                raise UsageError(f'--fault {request}: got "{match["length"]}"; expected a length such as 3s or 2m')
        return cls(request, match["kind"], match["node"] or kind.node, at_s, for_s)

    def lasts(self, elapsed_s: float) -> bool:
        """Tell whether it is there so many seconds after messages began to flow."""
        return self.at_s <= elapsed_s and (self.for_s is None or elapsed_s < self.at_s + self.for_s)


def require_nodes(faults: Iterable[Fault], nodes: Sequence[str]) -> None:
    """See that the nodes of all faults run.

    Raises:
        UsageError: one does not.
    """
    for fault in faults:
        if fault.node not in nodes:
            raise UsageError(
                f'--fault {fault.request}: no node "{fault.node}" runs; expected {alternatives(tuple(nodes))}'
                f"{did_you_mean(fault.node, nodes)}",
                hint=f"`--fault {fault.request.partition(',')[0]},node={nodes[0]}` gives it to {nodes[0]}.",
            )


def fault_environ(faults: Iterable[Fault], node: str) -> dict[str, str]:
    """Return what the environment of a node's process says of its faults; nothing where it has none."""
    own = [
        {"request": fault.request, "kind": fault.kind, "at_s": fault.at_s, "for_s": fault.for_s}
        for fault in faults
        if fault.node == node
    ]
    return {FAULTS_VARIABLE: json.dumps(own)} if own else {}


def faults_of(environ: Mapping[str, str], node: str) -> tuple[Fault, ...]:
    """Return the faults that the environment of a node's process says, in the order in which they come."""
    said = json.loads(environ.get(FAULTS_VARIABLE) or "[]")
    faults = (Fault(one["request"], one["kind"], node, one["at_s"], one["for_s"]) for one in said)
    return tuple(sorted(faults, key=lambda fault: fault.at_s))
