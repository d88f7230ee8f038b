"""The life of a node: set up, step by step, closed whatever happens."""

import time
from collections.abc import Mapping
from threading import Event
from typing import Any

from mecha.errors import MechaError
from mecha.runtime.bus import Sample, Use
from mecha.runtime.bus.inbox import Inbox
from mecha.runtime.live import LiveConfig
from mecha.runtime.messages import FrameMessage, Message
from mecha.runtime.node import Node, NodeContext
from mecha.runtime.timing import Gaps
from mecha.runtime.vitals import Arrivals

_IDLE_S = 0.5
_PAUSED_S = 0.1
_DRAIN_S = 1.0
_QUIET_S = 0.2
# A stream whose first frame here has a higher number was there before this node, or is a recording's.
_LATE_SEQ = 300


class NodeLoop:
    """Runs one node in the calling thread.

    Args:
        node_class: the node.
        context: where it runs; `context.stopping` ends the loop.
        live: its config.
        go: set when messages may flow: a source that starts before the others are ready is not heard.
        paused: set while there is to be no step; what comes meanwhile waits, or is replaced by what is newer.
        from_the_first: it is there before any frame: those before the first one it gets were lost on their way, as they
            are where a bus does not know yet who listens.
        seen: the last frames that the process before this one accounted for, by topic: what came meanwhile is missed.
    """

    def __init__(
        self,
        node_class: type[Node[Any]],
        context: NodeContext,
        live: LiveConfig[Any],
        go: Event,
        paused: Event | None = None,
        *,
        from_the_first: bool = False,
        seen: Mapping[str, int] | None = None,
    ) -> None:
        self._context = context
        self._live = live
        self._go = go
        self._paused = paused or Event()
        self._from_the_first = from_the_first
        self._types: dict[str, type[Message]] = dict(node_class.inputs)
        # A detector counts the frames it saw, whatever else it listens to.
        self._main_topic = next(iter(self._types), "")
        self._inbox = Inbox([topic for topic, kind in self._types.items() if kind.newest_wins])
        self._node = node_class(context, live.value)
        self._seen = dict(seen or {})
        self._gaps = Gaps(self._seen)
        self._missed = 0
        self._taken = 0
        # Until its first frame is here, nobody knows how many of a stream are missing but the inbox.
        streams = {topic for topic, kind in self._types.items() if issubclass(kind, FrameMessage)}
        self._unseen = streams - set(self._seen)
        self._replaced: dict[str, int] = {}
        self._undecoded: dict[str, str] = {}

    def wake(self) -> None:
        """Look at `context.stopping` and at the config now."""
        self._inbox.wake()

    def run(self) -> None:
        """Live until the node has finished or is to stop.

        Raises:
            MechaError: what the node raises; so does any other exception of it.
        """
        node = self._node
        node.setup()
        try:
            subscriptions = [self._context.bus.subscribe(topic, self._inbox.put) for topic in self._types]
            self._announce()
            self._live.start()
            self._context.events.ready(list(node.inputs), list(node.outputs))
            node.vitals.begin(self._context.events.stats, self._arrivals)
            self._wait_for_go()
            while not self._context.stopping.is_set() and not node.finished:
                self._configure()
                if self._paused.is_set():
                    node.wait(_PAUSED_S)
                else:
                    self._turn(_IDLE_S)
                node.vitals.beat()
            # Frames may still be on their way from a camera that has ended just now.
            self._drain(_QUIET_S)
            for subscription in subscriptions:
                subscription.close()
            self._drain(0.0)
        finally:
            self._live.stop()
            node.close()
            node.vitals.tell()

    def _announce(self) -> None:
        for writes, topics in ((False, self._node.inputs), (True, self._node.outputs)):
            for topic, kind in topics.items():
                self._context.bus.announce(Use(topic, writes, self._context.name, kind.__name__))

    def _wait_for_go(self) -> None:
        while not self._go.wait(_IDLE_S) and not self._context.stopping.is_set():
            self._configure()
            self._node.vitals.beat()

    def _configure(self) -> None:
        change = self._live.take()
        if change is not None:
            previous, self._node.config = change
            self._node.configure(previous)

    def _turn(self, timeout_s: float) -> None:
        """Do one step, if there is a message for it."""
        if not self._types:
            self._step("", None)
        else:
            self._take_one(timeout_s)

    def _take_one(self, timeout_s: float) -> bool:
        """Do one step with the next message; returns False when there is none."""
        replaced = {topic: self._inbox.dropped(topic) for topic in self._unseen}
        sample = self._inbox.take(timeout_s)
        if sample is None:
            return False
        message = self._decoded(sample, replaced)
        if message is not None:
            self._step(sample.topic, message)
            if isinstance(message, FrameMessage):
                self._seen[sample.topic] = message.seq
        return True

    def _step(self, topic: str, message: Message | None) -> None:
        vitals = self._node.vitals
        before = vitals.published_frames
        self._taken += topic == self._main_topic
        started = time.perf_counter()
        self._node.step(message)
        ms = (time.perf_counter() - started) * 1e3
        measured = self._node.take_measured()
        frames = vitals.published_frames - before if message is None else int(topic == self._main_topic)
        if self._node.take_left_out():
            self._missed += frames
        elif frames:
            vitals.frames += frames
            vitals.frame(ms if measured is None else measured)

    def _drain(self, quiet_s: float) -> None:
        """Work off what comes until nothing has come for `quiet_s`, for a second at most.

        Whoever stops a camera and then this node gets a result for the last frame.
        """
        deadline = time.monotonic() + _DRAIN_S
        wanted = self._types and not self._paused.is_set()
        while wanted and time.monotonic() < deadline and self._take_one(quiet_s):
            pass

    def _decoded(self, sample: Sample, replaced: Mapping[str, int]) -> Message | None:
        """Return a message, None when the bytes are none: what others send must not end this node.

        Args:
            replaced: how many of a topic newer ones replaced in the inbox, before the first of them came out of it.
        """
        try:
            message = self._types[sample.topic].decode(sample)
        except MechaError as error:
            if self._undecoded.get(sample.topic) != str(error):
                self._undecoded[sample.topic] = str(error)
                self._context.log.warning("%s", error)
            return None
        if isinstance(message, FrameMessage):
            self._missed += self._gaps.missed(sample.topic, message.seq)
            if sample.topic in self._unseen:
                self._unseen.remove(sample.topic)
                before = message.seq if self._from_the_first and message.seq <= _LATE_SEQ else 0
                self._missed += max(before, replaced[sample.topic])
            self._replaced[sample.topic] = self._inbox.dropped(sample.topic)
            # This one is to be worked on yet, and may be the end of this process.
            self._seen[sample.topic] = message.seq - 1
        return message

    def _arrivals(self) -> Arrivals:
        # Frames are numbered, which also tells of those that were lost before they came here; those that newer ones
        # replaced since the last step are known to the inbox only.
        replaced = {topic: self._inbox.dropped(topic) - self._replaced.get(topic, 0) for topic in self._types}
        return Arrivals(
            count=self._taken + self._inbox.dropped(self._main_topic),
            dropped=self._missed + sum(replaced.values()),
            seen={topic: seq + replaced[topic] for topic, seq in self._seen.items()},
        )
