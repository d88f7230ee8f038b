"""Where a node's messages wait: the newest of some topics, all of the others, every drop counted."""

from collections import deque
from collections.abc import Iterable
from threading import Condition

from mecha.runtime.bus import Sample

ORDERED_CAPACITY = 1000


class Inbox:
    """Samples between the threads of a bus and the thread of a node.

    Ordered samples come out first and in the order they came in: they are few and small, and change how the frames
    behind them are treated. Of each newest-wins topic only the last sample waits.

    Args:
        newest: topics of which only the newest sample counts.
        capacity: ordered samples that may wait; beyond it the oldest is dropped.
    """

    def __init__(self, newest: Iterable[str] = (), *, capacity: int = ORDERED_CAPACITY) -> None:
        self._newest_topics = frozenset(newest)
        self._capacity = capacity
        self._arrived = Condition()
        self._ordered: deque[Sample] = deque()
        # A dict keeps the order of arrival, so no topic starves another.
        self._newest: dict[str, Sample] = {}
        self._dropped: dict[str, int] = {}

    def put(self, sample: Sample) -> None:
        """Take a sample; never blocks for long, never raises. Give it to `Bus.subscribe` as the handler."""
        with self._arrived:
            if sample.topic in self._newest_topics:
                if self._newest.pop(sample.topic, None) is not None:
                    self._count(sample.topic)
                self._newest[sample.topic] = sample
            else:
                if len(self._ordered) == self._capacity:
                    self._count(self._ordered.popleft().topic)
                self._ordered.append(sample)
            self._arrived.notify()

    def take(self, timeout_s: float) -> Sample | None:
        """Return the next sample, or None when `timeout_s` seconds pass without one or `wake` is called."""
        with self._arrived:
            if not self._ordered and not self._newest:
                self._arrived.wait(timeout_s)
            if self._ordered:
                return self._ordered.popleft()
            if self._newest:
                return self._newest.pop(next(iter(self._newest)))
            return None

    def wake(self) -> None:
        """Let a waiting `take` return at once."""
        with self._arrived:
            self._arrived.notify_all()

    def dropped(self, topic: str) -> int:
        """Return how many samples of a topic were dropped here, replaced by newer ones or too many to wait."""
        with self._arrived:
            return self._dropped.get(topic, 0)

    def _count(self, topic: str) -> None:
        self._dropped[topic] = self._dropped.get(topic, 0) + 1
