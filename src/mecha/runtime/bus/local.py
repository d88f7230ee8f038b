"""A bus inside one process: for tests, and for a node that runs alone."""

from threading import Lock, RLock

from mecha.runtime.bus import Handler, Sample, checked_topic


class LocalBus:
    """Hands messages over in the thread that publishes them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._subscriptions: tuple[_LocalSubscription, ...] = ()
        self._closed = False

    def publish(self, topic: str, payload: bytes, attachment: bytes = b"", *, droppable: bool = False) -> None:
        """Send a message; see `Bus.publish`. Nothing is ever congested here, so nothing is dropped."""
        del droppable
        sample = Sample(checked_topic(topic), payload, attachment)
        for subscription in self._subscriptions:
            if subscription.topic == topic:
                subscription.hand_over(sample)

    def subscribe(self, topic: str, handler: Handler) -> "_LocalSubscription":
        """Give every sample of a topic to `handler`; see `Bus.subscribe`."""
        subscription = _LocalSubscription(self, checked_topic(topic), handler)
        with self._lock:
            if not self._closed:
                self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def close(self) -> None:
        """Leave the bus."""
        with self._lock:
            self._closed = True
            self._subscriptions = ()

    def remove(self, subscription: "_LocalSubscription") -> None:
        """Forget a subscription."""
        with self._lock:
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)


class _LocalSubscription:
    def __init__(self, bus: LocalBus, topic: str, handler: Handler) -> None:
        self.topic = topic
        self._bus = bus
        self._handler = handler
        # Two threads may publish at once, and a handler sees one sample at a time; it may also close its subscription.
        self._lock = RLock()
        self._closed = False

    def hand_over(self, sample: Sample) -> None:
        with self._lock:
            if not self._closed:
                self._handler(sample)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._bus.remove(self)
