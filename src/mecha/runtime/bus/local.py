"""A bus inside one process: for tests, and for a node that runs alone."""

from threading import Lock, RLock

from mecha.runtime.bus import Handler, Sample, Use, checked_topic


class LocalBus:
    """Hands messages over in the thread that publishes them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._subscriptions: tuple[_LocalSubscription, ...] = ()
        self._uses: frozenset[Use] = frozenset()
        self._closed = False

    def publish(self, topic: str, payload: bytes, attachment: bytes = b"", *, droppable: bool = False) -> None:
        """Send a message; see `Bus.publish`. Nothing is ever congested here, so nothing is dropped."""
        del droppable
        sample = Sample(checked_topic(topic), payload, attachment)
        for subscription in self._subscriptions:
            if subscription.topic in {topic, None}:
                subscription.hand_over(sample)

    def subscribe(self, topic: str, handler: Handler) -> "_LocalSubscription":
        """Give every sample of a topic to `handler`; see `Bus.subscribe`."""
        return self._added(_LocalSubscription(self, checked_topic(topic), handler))

    def subscribe_all(self, handler: Handler) -> "_LocalSubscription":
        """Give every sample of every topic to `handler`; see `Bus.subscribe_all`."""
        return self._added(_LocalSubscription(self, None, handler))

    def is_heard(self, topic: str) -> bool:
        """Tell whether somebody subscribes to a topic now."""
        wanted = {checked_topic(topic), None}
        return any(subscription.topic in wanted for subscription in self._subscriptions)

    def announce(self, use: Use) -> None:
        """Let `uses` tell of a use."""
        checked_topic(use.topic)
        with self._lock:
            self._uses |= {use}

    def uses(self, within_s: float = 1.0) -> tuple[Use, ...]:
        """Return what was announced; here that is known at once."""
        del within_s
        return tuple(sorted(self._uses))

    def close(self) -> None:
        """Leave the bus."""
        with self._lock:
            self._closed = True
            self._subscriptions = ()
            self._uses = frozenset()

    def _added(self, subscription: "_LocalSubscription") -> "_LocalSubscription":
        with self._lock:
            if not self._closed:
                self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def remove(self, subscription: "_LocalSubscription") -> None:
        """Forget a subscription."""
        with self._lock:
            self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)


class _LocalSubscription:
    def __init__(self, bus: LocalBus, topic: str | None, handler: Handler) -> None:
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
