"""What the screen of `mecha dev` knows of the nodes, from their events alone. No clock, no terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mecha.cli.screen.log import Log, clean

STAGES = ("pre", "session", "post")
_FIGURES_LAST_S = 3.0
"""Figures come once a second; older ones say nothing about now."""
_AT_WORK = frozenset({"ready", "running", "paused", "stopping"})


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds that half of the frames, and 95 of 100, do not exceed; None before the first."""

    p50: float | None = None
    p95: float | None = None

    @classmethod
    def of(cls, told: object) -> "Spread":
        """Read `{"p50", "p95"}`."""
        return cls(_number(told.get("p50")), _number(told.get("p95"))) if isinstance(told, Mapping) else cls()


@dataclass(slots=True)
class NodeRow:
    """One node, over all of its processes.

    Attributes:
        state: a word of the "state" event.
        reason: why it is in that state.
        precision: of the last frame; "" for a node that runs no model.
        fps_in: frames a second that come to it; fps_out: that it has worked on, or published.
        dropped: of this run, over all processes of the node.
        faults: those of `--fault` that last, as they were asked for.
    """

    name: str
    state: str = "starting"
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    precision: str = ""
    fps_in: float | None = None
    fps_out: float | None = None
    step: Spread = Spread()
    stages: Mapping[str, Spread] = field(default_factory=dict)
    rss_mb: float | None = None
    cpu_percent: float | None = None
    stale: bool = False
    degraded: str = ""
    faults: list[str] = field(default_factory=list)
    _dropped: int = 0
    _dropped_before: int = 0
    _heard_at_s: float | None = None

    @property
    def dropped(self) -> int:
        """Frames of this run that never reached the node."""
        return self._dropped_before + self._dropped

    @property
    def note(self) -> str:
        """What is out of the ordinary, "" when nothing is."""
        words = [fault.partition("@")[0] for fault in self.faults]
        if self.stale:
            words.append("stale")
        if self.degraded:
            words.append(self.degraded)
        if self.reason and self.state not in {"running", "ready", "ended"}:
            words.append(self.reason)
        return ", ".join(words)

    def is_fresh(self, now_s: float) -> bool:
        """Tell whether its figures are those of now."""
        heard = self._heard_at_s is not None and now_s - self._heard_at_s <= _FIGURES_LAST_S
        return heard and self.state in _AT_WORK

    def take_stats(self, event: Mapping[str, Any], now_s: float) -> None:
        """Take the figures of a second."""
        self._heard_at_s = now_s
        self._dropped = int(event.get("dropped") or 0)
        self.step = Spread(_number(event.get("p50_ms")), _number(event.get("p95_ms")))
        stages = event.get("stages")
        self.stages = {name: Spread.of(stages.get(name)) for name in STAGES} if isinstance(stages, Mapping) else {}
        self.fps_in, self.fps_out = _number(event.get("fps_in")), _number(event.get("fps_out"))
        self.rss_mb, self.cpu_percent = _number(event.get("rss_mb")), _number(event.get("cpu_percent"))
        self.precision = _word(event.get("precision")) or self.precision
        self.stale = bool(event.get("stale"))
        self.degraded = _word(event.get("degraded"))

    def take_state(self, event: Mapping[str, Any]) -> None:
        """Take another state."""
        pid = event.get("pid")
        if pid is not None and pid != self.pid:
            self.pid = int(pid)
            self._dropped_before, self._dropped = self.dropped, 0
            self._heard_at_s = None
            # A process that goes on with one says so again.
            self.faults = []
        self.state, self.reason = _word(event.get("state")), _word(event.get("reason"))
        self.restarts = int(event.get("restarts") or 0)


class ScreenState:
    """All that is drawn.

    Attributes:
        nodes: by name, in the order in which they were first heard of.
        log: their lines.
        chosen: name of the node that keys command; "" before there is one.
        typed: the text that is being typed to find lines; None when none is.
        helps: the help is shown.
        wraps: long log lines are shown whole.
        said: what keys have set otherwise than it usually is, in words, as in "degrading on".
        stopping: the run is ending.
        began_s: when messages began to flow, None before.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRow] = {}
        self.log = Log()
        self.chosen = ""
        self.typed: str | None = None
        self.helps = False
        self.wraps = False
        self.said: dict[str, str] = {}
        self.stopping = False
        self.began_s: float | None = None

    def take(self, event: Mapping[str, Any], now_s: float) -> None:
        """Take an event of `mecha dev --json`; one of another kind changes nothing.

        Args:
            event: as JSON holds it.
            now_s: when it came, on a monotonic clock.
        """
        name = event.get("node")
        if not isinstance(name, str):
            return
        row = self.nodes.setdefault(name, NodeRow(clean(name)))
        self.chosen = self.chosen or name
        kind = event.get("event")
        if kind == "stats":
            row.take_stats(event, now_s)
        elif kind == "state":
            row.take_state(event)
            if row.state == "running" and self.began_s is None:
                self.began_s = now_s
        elif kind == "inference":
            row.precision = _word(event.get("precision"))
        elif kind == "degrade":
            row.degraded = _word(event.get("to"))
        elif kind == "fault":
            fault = _word(event.get("fault"))
            row.faults = [other for other in row.faults if other != fault]
            if event.get("phase") == "begin":
                row.faults.append(fault)

    def choose(self, step: int) -> None:
        """Choose the node so many rows below, or above."""
        names = list(self.nodes)
        if names:
            self.chosen = names[(names.index(self.chosen) + step) % len(names)]

    @property
    def row(self) -> NodeRow | None:
        """The chosen node."""
        return self.nodes.get(self.chosen)

    @property
    def detectors(self) -> list[NodeRow]:
        """The nodes that run a model."""
        return [row for row in self.nodes.values() if row.precision]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _word(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""
