"""What a node is: a class with `setup`, `step` and `close` in nodes/<name>/node.py.

from mecha import DetectionsMessage, JsonMessage, Node

class Counter(Node):
    inputs = {"/vision/object/detections": DetectionsMessage}
    outputs = {"/count": JsonMessage}

    def step(self, message: DetectionsMessage) -> None:
        self.publish("/count", JsonMessage({"frame": message.frame, "objects": len(message.detections)}))
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from mecha.errors import ConfigError
from mecha.runtime.bus import Bus
from mecha.runtime.config import NodeConfig
from mecha.runtime.events import Events, Swap
from mecha.runtime.messages import FrameMessage, Message
from mecha.runtime.vitals import BEAT_S, Vitals

__all__ = ["Field", "Node", "NodeConfig", "NodeContext", "Rate"]

C = TypeVar("C", bound=NodeConfig)

_LOG_PERIOD_S = 1.0
_IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class NodeContext:
    """Where a node runs.

    Attributes:
        name: of the node, as its folder in nodes/.
        root: the project's root; paths in a config are relative to it.
        stopping: set when the node is to end.
        clock: monotonic seconds; waits are as long by it.
    """

    name: str
    root: Path
    bus: Bus
    events: Events
    log: logging.Logger
    stopping: Event
    clock: Callable[[], float] = time.monotonic


class Node(Generic[C]):
    """Derive from it, name inputs and outputs, and override what is needed. One thread calls all of these methods.

    Attributes:
        config_model: the type of its config.json; only what it names may be written there.
        inputs: topics it reads and what their messages are. A node without inputs is a source.
        outputs: topics it writes.
        config: what it runs with; a change comes between two steps, see `configure`.
        log: its lines in `mecha dev`.
        root: the project's root.
    """

    config_model: ClassVar[type[NodeConfig]] = NodeConfig
    inputs: ClassVar[Mapping[str, type[Message]]] = {}
    outputs: ClassVar[Mapping[str, type[Message]]] = {}

    def __init__(self, context: NodeContext, config: C) -> None:
        self.config = config
        self.log = context.log
        self.root = context.root
        self.finished = False
        self.vitals = Vitals(reads=bool(self.inputs), writes=bool(self.outputs))
        self._context = context
        self._measured_ms: float | None = None
        self._left_out = False
        self._inference_lines = Rate(_LOG_PERIOD_S, context.clock)

    def setup(self) -> None:
        """Get ready; called once, before any message."""

    def configure(self, previous: C) -> None:
        """Follow a changed config: `self.config` is the new one. Called between two steps."""

    def step(self, message: Any) -> None:  # noqa: ANN401, ARG002 - whatever the inputs name
        """Work on one message; a source gets None, again and again, and takes its time itself.

        What it raises ends the process, and the supervisor starts it again. A node that has no step of its own, as one
        whose work is done by threads that `setup` starts, waits for its end.
        """
        self.wait(_IDLE_S)

    def close(self) -> None:
        """Give back what `setup` took; called once at the end, after an error of a step too."""

    def publish(self, topic: str, message: Message) -> None:
        """Send a message.

        Raises:
            ConfigError: the topic is not among the outputs, or the message is of another type.
        """
        expected = self.outputs.get(topic)
        if expected is None or not isinstance(message, expected):
            outputs = ", ".join(f"{name} ({kind.__name__})" for name, kind in self.outputs.items()) or "none"
            raise ConfigError(
                f"{self._context.name}: got a {type(message).__name__} for {topic}; "
                f"expected one of its outputs: {outputs}"
            )
        payload, attachment = message.encode()
        self._context.bus.publish(topic, payload, attachment, droppable=message.newest_wins)
        self.vitals.published += topic == next(iter(self.outputs))
        self.vitals.published_frames += isinstance(message, FrameMessage)

    def finish(self) -> None:
        """Say that there is nothing more to do: the node ends well after this step."""
        self.finished = True

    def wait(self, seconds: float) -> bool:
        """Wait; returns True as soon as the node is to end.

        Called now and then in a long step, with 0 too, it tells the supervisor that the node lives.
        """
        left_s = max(0.0, seconds)
        until_s = self._context.clock() + left_s
        while not self._context.stopping.wait(min(left_s, BEAT_S)):
            self.vitals.beat()
            left_s = until_s - self._context.clock()
            if left_s <= 0:
                return self._context.stopping.is_set()
        return True

    def mark_stale(self, stale: bool) -> None:
        """Say whether what this node gives is made of old input, as of a camera that is gone."""
        self.vitals.stale = stale

    def mark_degraded(self, words: str) -> None:
        """Say what this node does less than it is asked to, as in "skip 2"; empty when all is well."""
        self.vitals.degraded = words

    def mark_missed(self, count: int) -> None:
        """Count what came to a source by itself, as frames of a camera do, and was not taken in time: it is dropped."""
        self.vitals.missed += count

    def measured(self, ms: float) -> None:
        """Say how long this frame took where that is not the duration of the step, which may hold a wait."""
        self._measured_ms = ms

    def leave_out(self) -> None:
        """Say that this frame is not worked on, on purpose: it counts among those that were dropped."""
        self._left_out = True

    def report_degrade(self, was: str, now: str, reason: str, *, down: bool) -> None:
        """Tell that the node does less than it is asked to, or more of it again.

        Args:
            was: what it did less, as in "skip 1", "" for nothing.
            now: the same since; it stands in the figures of the node from now on, see `mark_degraded`.
            reason: why.
            down: it does less than before; that is a warning.
        """
        self._context.events.degrade(was, now, reason)
        self.mark_degraded(now)
        level = logging.WARNING if down else logging.INFO
        self.log.log(level, "Degrading: %s -> %s (%s)", was or "as configured", now or "as configured", reason)

    def report_inference(
        self, ms: float, precision: str, frame: int, stages: Mapping[str, float] | None = None
    ) -> None:
        """Tell that a model ran on a frame: as an event every time, as a log line at most once a second.

        The first frame of another precision always gets its line. With MECHA_LOG=debug every frame does.

        Args:
            ms: the whole frame.
            precision: as in "INT8".
            frame: its sequence number.
            stages: milliseconds of "pre", "session" and "post".
        """
        self._context.events.inference(ms, precision, frame, stages)
        self.vitals.inference(precision, stages)
        self.measured(ms)
        level = logging.INFO if self._inference_lines.due(precision) else logging.DEBUG
        self.log.log(level, "Inference: %.1f ms (%s)", ms, precision)

    def report_swap(self, swap: Swap) -> None:
        """Tell that another precision, model or option runs now, with the medians before and after."""
        self._context.events.swap(swap)
        self.log.info("%s%s -> %s%s", swap.was, _ms(swap.before_ms), swap.now, _ms(swap.after_ms))

    def take_measured(self) -> float | None:
        """Return and forget what `measured` said."""
        ms, self._measured_ms = self._measured_ms, None
        return ms

    def take_left_out(self) -> bool:
        """Return and forget whether `leave_out` was called."""
        left_out, self._left_out = self._left_out, False
        return left_out


class Rate:
    """Lets something through at most once in a while for each thing it is about, and at once when that changes."""

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._last: tuple[str, float] | None = None

    def due(self, about: str) -> bool:
        """Tell whether it is time again."""
        now = self._clock()
        if self._last is not None and self._last[0] == about and now - self._last[1] < self._period_s:
            return False
        self._last = (about, now)
        return True


def _ms(value: float | None) -> str:
    return "" if value is None else f" {value:.1f} ms"
