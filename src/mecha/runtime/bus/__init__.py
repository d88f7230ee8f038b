"""Topics between nodes: what a bus is, whatever carries it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mecha.errors import ConfigError

_TOPIC = re.compile(r"(?:/[A-Za-z0-9_.-]+)+")


@dataclass(frozen=True, slots=True)
class Sample:
    """One message as it arrives.

    Attributes:
        topic: as in "/camera/rgb".
        payload: the message itself.
        attachment: a small header beside it, empty for most messages.
    """

    topic: str
    payload: bytes
    attachment: bytes = b""


Handler = Callable[[Sample], None]


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """A node that writes or reads a topic.

    Attributes:
        topic: as in "/camera/rgb".
        writes: it writes; otherwise it reads.
        node: its name.
        message: name of the type of its messages there.
    """

    topic: str
    writes: bool
    node: str
    message: str


class Subscription(Protocol):
    """Samples of one topic that go to one handler."""

    def close(self) -> None:
        """Stop: once this returns, no new call of the handler begins. Closing twice is allowed."""
        ...


class Bus(Protocol):
    """Carries messages by topic. Every subscriber of a topic gets what is published after it subscribed.

    Messages of one publisher on one topic arrive in the order they were sent. A bus may be used from several threads.
    """

    def publish(self, topic: str, payload: bytes, attachment: bytes = b"", *, droppable: bool = False) -> None:
        """Send a message to whoever listens; nobody listening is no error, and after `close` nobody does.

        Args:
            topic: see `checked_topic`.
            payload: any bytes.
            attachment: a small header.
            droppable: the message may be lost where the way is congested, as a frame may when newer ones follow.

        Raises:
            ConfigError: the topic is none.
        """
        ...

    def subscribe(self, topic: str, handler: Handler) -> Subscription:
        """Give every sample of a topic to `handler`, from a thread of the bus or of the publisher.

        A handler is quick and never raises: `Inbox.put` is one.

        Raises:
            ConfigError: the topic is none.
        """
        ...

    def subscribe_all(self, handler: Handler) -> Subscription:
        """Give every sample of every topic to `handler`, those of topics that appear later too; see `subscribe`."""
        ...

    def is_heard(self, topic: str) -> bool:
        """Tell whether somebody subscribes to a topic now.

        Raises:
            ConfigError: the topic is none.
        """
        ...

    def announce(self, use: Use) -> None:
        """Let `uses` tell, on every end of the bus, of a use that lasts until this end is closed or its process dies.

        Raises:
            ConfigError: the topic is none.
        """
        ...

    def uses(self, within_s: float = 1.0) -> tuple[Use, ...]:
        """Return what was announced and still lasts, ordered by topic.

        Args:
            within_s: how long to listen; an end that has just joined learns of the others one by one.
        """
        ...

    def close(self) -> None:
        """Leave the bus. What was published before is delivered. Closing twice is allowed."""
        ...


def checked_topic(topic: str) -> str:
    """Return a topic that is one.

    Raises:
        ConfigError: it is not of the form /word/word.
    """
    if not is_topic(topic):
        raise ConfigError(
            f'topic: got "{topic}"; expected words that each begin with a slash, as in /camera/rgb',
            hint="A word holds letters, digits, `_`, `.` and `-`.",
        )
    return topic


def is_topic(text: str) -> bool:
    """Tell whether a text may name a topic."""
    return _TOPIC.fullmatch(text) is not None
