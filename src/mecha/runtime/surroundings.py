"""What the nodes of a run have in common, and how what they are in is told."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mecha.runtime.events import prefixed
from mecha.runtime.guard import Guard
from mecha.runtime.lifeline import STOP_DEADLINE_S
from mecha.runtime.process import News
from mecha.runtime.timing import NodeStats

State = Literal["starting", "ready", "running", "paused", "restarting", "hung", "stopping", "ended", "failed"]
STATES: tuple[State, ...] = get_args(State)
"""What a node is in. `restarting` waits for its next start; `ended` ended well; `failed` is not started again."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What nodes have in common.

    Attributes:
        root: the project's root.
        guard: ends their processes with this one.
        on_news: gets what a process writes, and its end; from any thread.
        on_line: gets lines of the log.
        on_event: gets events, as `mecha dev --json` writes them.
        stop_deadline_s: how long a node may take to end before it is killed.
        clock: monotonic seconds.
        until_stopped: the others go on when a node fails for good, and somebody may start it again.
    """

    root: Path
    guard: Guard
    on_news: Callable[[News], None]
    on_line: Callable[[str], None]
    on_event: Callable[[dict[str, Any]], None]
    stop_deadline_s: float = STOP_DEADLINE_S
    clock: Callable[[], float] = time.monotonic
    until_stopped: bool = False

    def say(self, level: str, node: str, text: str) -> None:
        """Log a text in the name of a node; an error is an event too."""
        for line in prefixed(level, node, text).splitlines():
            self.on_line(line)
        if level == "ERROR":
            self.on_event({"event": "error", "node": node, "message": text})


class Account:
    """The figures of a node over all of its processes."""

    def __init__(self) -> None:
        self._before = NodeStats()
        self._now = NodeStats()

    @property
    def restarts(self) -> int:
        """How many processes came after another one."""
        return self._before.restarts

    def take(self, stats: NodeStats) -> None:
        """Take in what the process that runs says of itself."""
        self._now = stats

    def begin_another(self) -> None:
        """Count a process more."""
        self._before = replace(self.total(""), restarts=self._before.restarts + 1)
        self._now = replace(self._now, frames=0, dropped=0)

    def total(self, state: str) -> NodeStats:
        """Return the sums, and all else as it was told last."""
        return replace(
            self._now,
            frames=self._before.frames + self._now.frames,
            dropped=self._before.dropped + self._now.dropped,
            restarts=self._before.restarts,
            state=state,
        )
