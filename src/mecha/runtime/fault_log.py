"""How a run took the faults it was asked for: which came, and how long its nodes needed to work again."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mecha.runtime.faults import KINDS, Fault

_NEW_PROCESS = "starting"
"""The state of a node whose process has just been started."""


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One fault of a run, and what came of it.

    Attributes:
        fault: as it was asked for.
        begun: it came: the run still went, and the node was there.
        recovery_s: to the next frame that the node worked on, from the end of the fault, or from its beginning where
            the node itself stood still; None where there was none. A node without a model tells of its frames once a
            second.
    """

    fault: Fault
    begun: bool = False
    recovery_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as the summary of `mecha dev --json` has it."""
        return {
            "fault": self.fault.request,
            "kind": self.fault.kind,
            "node": self.fault.node,
            "begun": self.begun,
            "recovery_s": None if self.recovery_s is None else round(self.recovery_s, 3),
        }


@dataclass(slots=True)
class _Entry:
    fault: Fault
    begun_s: float | None = None
    works_s: float | None = None
    renewed: bool = False

    @property
    def counted_from_s(self) -> float:
        """From when on it is counted how long the node needs; only of a fault that has begun."""
        lasts_s = 0.0 if KINDS[self.fault.kind].stops else self.fault.for_s
        return (self.begun_s or 0.0) + (lasts_s or 0.0)

    def works(self, now_s: float) -> None:
        """Take in that the node has just worked on a frame."""
        if self.begun_s is None or self.works_s is not None or now_s < self.counted_from_s:
            return
        # A process that is killed may have told of its last frames a moment later than of its fault.
        if self.renewed or not KINDS[self.fault.kind].momentary:
            self.works_s = now_s

    @property
    def record(self) -> FaultRecord:
        recovery_s = None if self.works_s is None else self.works_s - self.counted_from_s
        return FaultRecord(self.fault, self.begun_s is not None, recovery_s)


class FaultLog:
    """Follows the events of a run.

    Args:
        faults: that were asked for.
        clock: monotonic seconds.
    """

    def __init__(self, faults: Iterable[Fault], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries = [_Entry(fault) for fault in faults]
        self._clock = clock
        self._frames: dict[str, int] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in one event of a node or of the supervisor."""
        if not self._entries:
            return
        own = [entry for entry in self._entries if entry.fault.node == event.get("node")]
        kind = event.get("event")
        if kind == "fault" and event["phase"] == "begin":
            for entry in own:
                if entry.fault.request == event["fault"] and entry.begun_s is None:
                    entry.begun_s = self._clock()
        elif kind == "state" and event["state"] == _NEW_PROCESS:
            self._frames.pop(event["node"], None)
            for entry in own:
                entry.renewed = entry.begun_s is not None
        elif kind == "inference" or (kind == "stats" and self._works(event)):
            for entry in own:
                entry.works(self._clock())

    def _works(self, stats: Mapping[str, Any]) -> bool:
        """Tell whether a node has worked on frames since it told the last time, or sends where it has none."""
        node, frames = stats["node"], stats["frames"]
        before, self._frames[node] = self._frames.get(node, 0), frames
        return bool(frames > before or (not frames and stats.get("fps_out")))

    @property
    def records(self) -> tuple[FaultRecord, ...]:
        """What came of each fault, in the order in which they were asked for."""
        return tuple(entry.record for entry in self._entries)


def fault_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a summary on faults, one each; records as `FaultRecord.to_json` gives them."""
    return [f"Fault {record['fault']} ({record['node']}): {_came_of(record)}" for record in records]


def _came_of(record: Mapping[str, Any]) -> str:
    if not record["begun"]:
        return "did not come: by then the run was over, or the node was not there"
    if record["recovery_s"] is None:
        return "the node did not work again before the run was over"
    since = "it came" if KINDS[record["kind"]].stops else "its end"
    return f"the node worked again {record['recovery_s']:.1f} s after {since}"
