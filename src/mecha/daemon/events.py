"""What happens in the daemon, for those who look: events with numbers, and the last lines of the log."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Any, Self

KEPT_LINES = 500
KEPT_EVENTS = 1000
"""So many events are there for one who lost the connection: some 20 s of two nodes at 15 frames a second."""
QUEUE_LIMIT = 1000
"""What a listener may be behind before the oldest is dropped."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        number: counts the events of this daemon since it was started, from 1.
        data: as `mecha dev --json` writes it, or `{"event":"model",…}`, or `{"event":"log","line"}`.
    """

    number: int
    data: Mapping[str, Any]


class EventHub:
    """Takes events from any thread and gives them to all who listen; nobody is waited for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._number = 0
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._kept: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._subscriptions: list[Subscription] = []

    def publish(self, event: Mapping[str, Any]) -> None:
        """Give an event to all who listen now; a line of the log is kept too."""
        with self._lock:
            self._number += 1
            numbered = Event(self._number, event)
            self._kept.append(numbered)
            if event.get("event") == "log":
                self._lines.append(event["line"])
            # Within the lock: events of two threads reach everybody in the order of their numbers.
            for subscription in self._subscriptions:
                subscription.put(numbered)

    def log(self, line: str) -> None:
        """Publish a line of the log."""
        self.publish({"event": "log", "line": line})

    def recent(self) -> tuple[str, ...]:
        """Return the last lines of the log, oldest first."""
        with self._lock:
            return tuple(self._lines)

    @property
    def last_number(self) -> int:
        """Of the newest event, 0 before the first."""
        with self._lock:
            return self._number

    def subscribe(
        self,
        after: int | None = None,
        *,
        limit: int = QUEUE_LIMIT,
        on_put: Callable[[], None] = lambda: None,
    ) -> "Subscription":
        """Listen from now on.

        Args:
            after: give those after this number first, as far as they are kept; None for new ones only. A number that
                is not known yet is one of a daemon from before: then all that are kept are given.
            limit: see QUEUE_LIMIT.
            on_put: called from the publishing thread whenever there is something to take, and at the end; must be quick
                and not raise.
        """
        with self._lock:
            begin = None if after is None else after if after <= self._number else 0
            missed = [] if begin is None else [event for event in self._kept if event.number > begin]
            subscription = Subscription(self._drop, limit, on_put)
            for event in missed:
                subscription.put(event)
            self._subscriptions.append(subscription)
            return subscription

    def close(self) -> None:
        """End all subscriptions: whoever waits for the next event is told that there is none."""
        with self._lock:
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()

    def _drop(self, subscription: "Subscription") -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)


class Subscription:
    """Events for one listener. Made by `EventHub.subscribe`; a context manager that closes itself."""

    def __init__(self, leave: Callable[["Subscription"], None], limit: int, on_put: Callable[[], None]) -> None:
        self._leave = leave
        self._limit = limit
        self._on_put = on_put
        self._changed = Condition()
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """How many events went because the listener was too slow."""
        with self._changed:
            return self._dropped

    @property
    def closed(self) -> bool:
        """Nothing comes any more."""
        with self._changed:
            return self._closed

    def put(self, event: Event) -> None:
        """Add an event; of too many the oldest goes."""
        with self._changed:
            if self._closed:
                return
            if len(self._events) >= self._limit:
                self._events.popleft()
                self._dropped += 1
            self._events.append(event)
            self._changed.notify_all()
        self._on_put()

    def take(self) -> tuple[Event, ...]:
        """Return what has come, without waiting."""
        with self._changed:
            events = tuple(self._events)
            self._events.clear()
            return events

    def get(self, timeout_s: float) -> Event | None:
        """Return the next event; None when none has come in time, or the subscription is closed."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._events and not self._closed:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            return self._events.popleft() if self._events else None

    def close(self) -> None:
        """Listen no more. Closing twice is allowed."""
        self._leave(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._on_put()
