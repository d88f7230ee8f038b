"""The last message of a topic, for those who look now and then: nobody listens while nobody looks."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mecha.runtime.bus import Bus, Sample, Use

if TYPE_CHECKING:
    from mecha.runtime.bus import Subscription

IDLE_S = 5.0
_USES_KEPT_S = 3.0
_USES_WITHIN_S = 0.3


@dataclass(eq=False)
class _Listening:
    """To one topic."""

    bus: Bus
    began_s: float
    asked_s: float
    subscription: "Subscription | None" = None
    sample: Sample | None = None
    came: threading.Condition = field(default_factory=threading.Condition)

    def take(self, sample: Sample) -> None:
        with self.came:
            self.sample = sample
            self.came.notify_all()


class LatestMessages:
    """Subscribes to a topic when it is asked for, and leaves it when nobody has asked for a while.

    Args:
        bus: returns the bus of now; a project may get another one.
        idle_s: without a question, after which a topic is left.
    """

    def __init__(self, bus: Callable[[], Bus], *, idle_s: float = IDLE_S) -> None:
        self._bus = bus
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._topics: dict[str, _Listening] = {}
        self._uses: tuple[float, tuple[Use, ...]] = (0.0, ())
        self._leaving: threading.Timer | None = None

    def latest(self, topic: str, wait_s: float) -> Sample | None:
        """Return the last message since the topic was first asked for; None where none has come.

        Args:
            wait_s: after the topic was first asked for, in which its first message is waited for.

        Raises:
            NodeError: the bus is not open.
        """
        listening = self._listening(topic)
        with listening.came:
            left_s = listening.began_s + wait_s - time.monotonic()
            listening.came.wait_for(lambda: listening.sample is not None, max(0.0, left_s))
            return listening.sample

    def topic_of(self, node: str, message: str) -> str | None:
        """Return the topic of such messages that a node writes, else one that it reads; None where it does neither.

        Raises:
            NodeError: the bus is not open.
        """
        with self._lock:
            at_s, uses = self._uses
        if time.monotonic() - at_s > _USES_KEPT_S or not uses:
            uses = self._bus().uses(_USES_WITHIN_S)
            with self._lock:
                self._uses = (time.monotonic(), uses)
        mine = [use for use in uses if use.node == node and use.message == message]
        mine.sort(key=lambda use: not use.writes)
        return mine[0].topic if mine else None

    @property
    def topics(self) -> tuple[str, ...]:
        """What is listened to now."""
        with self._lock:
            return tuple(self._topics)

    def _listening(self, topic: str) -> _Listening:
        bus = self._bus()
        with self._lock:
            listening = self._topics.get(topic)
            now_s = time.monotonic()
            if listening is None or listening.bus is not bus:
                listening = _Listening(bus, began_s=now_s, asked_s=now_s)
                listening.subscription = bus.subscribe(topic, listening.take)
                self._topics[topic] = listening
            listening.asked_s = now_s
            if self._leaving is None:
                self._begin_to_wait()
            return listening

    def _begin_to_wait(self) -> None:
        self._leaving = threading.Timer(self._idle_s, self._leave)
        self._leaving.daemon = True
        self._leaving.start()

    def _leave(self) -> None:
        with self._lock:
            before_s = time.monotonic() - self._idle_s
            old = [topic for topic, listening in self._topics.items() if listening.asked_s <= before_s]
            gone = [self._topics.pop(topic) for topic in old]
            self._leaving = None
            if self._topics:
                self._begin_to_wait()
        # Not within the lock: a bus may wait for a handler that runs.
        for listening in gone:
            if listening.subscription is not None:
                listening.subscription.close()
