"""`mecha replay`: the messages of a recording, sent again."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event

from mecha.errors import NotFoundError, UsageError
from mecha.runtime.bus import Bus, Use
from mecha.runtime.recording import Recording
from mecha.words import did_you_mean

NODE = "replay"
"""The name under which a replay writes topics."""
_MESSAGE = "recorded"
_READERS_S = 5.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Cast:
    """Which topics are played.

    Attributes:
        topics: those that are.
        left_out: topics that are not, because a running node writes them; with its name.
    """

    topics: tuple[str, ...]
    left_out: Mapping[str, str]


def cast_of(recorded: Collection[str], wanted: Sequence[str], uses: Iterable[Use], *, where: str) -> Cast:
    """Return what to play: the wanted topics, else all that no running node writes by itself.

    A recording holds what a detector was given and what it found. Who plays it to a detector wants the first only.

    Args:
        recorded: topics of the recording.
        wanted: topics that were named; none means all that make sense.
        uses: who writes what now.
        where: the recording, for messages.

    Raises:
        NotFoundError: a named topic is not in the recording, or nothing is.
        UsageError: running nodes write every topic of it.
    """
    if not recorded:
        raise NotFoundError(f"{where}: holds no message")
    for topic in wanted:
        if topic not in recorded:
            raise NotFoundError(
                f'{where}: no topic "{topic}"{did_you_mean(topic, recorded)}',
                hint=f"It holds {', '.join(recorded)}.",
            )
    if wanted:
        return Cast(tuple(dict.fromkeys(wanted)), {})
    writers = {use.topic: use.node for use in sorted(uses, reverse=True) if use.writes}
    topics = tuple(topic for topic in recorded if topic not in writers)
    if not topics:
        told = " and ".join(f"{topic} by {writers[topic]}" for topic in recorded)
        raise UsageError(
            f"{where}: nodes that run write every topic of it: {told}",
            hint="Run only those that are to read it, as in `mecha dev object-detector`; or name topics with --topic.",
        )
    return Cast(topics, {topic: writers[topic] for topic in recorded if topic in writers})


def parse_speed(text: str) -> float:
    """Return how many times as fast "0.5" or "2x" is.

    Raises:
        UsageError: it is no speed.
    """
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise UsageError(f'--speed: got "{text}"; expected a number more than 0, such as 0.5 or 2')
    return speed


def wait_for_readers(bus: Bus, topics: Iterable[str], uses: Iterable[Use], stopping: Event) -> tuple[str, ...]:
    """Wait until the nodes that read topics are reached; returns the topics that nobody reads.

    Whoever has just joined a bus finds its members one by one, and would play its first messages to nobody.
    """
    read = {use.topic for use in uses if not use.writes}
    deadline_s = time.monotonic() + _READERS_S
    for topic in topics:
        while topic in read and not bus.is_heard(topic) and time.monotonic() < deadline_s:
            if stopping.wait(_LOOK_S):
                break
    return tuple(topic for topic in topics if not bus.is_heard(topic))


def play(
    recording: Recording,
    bus: Bus,
    topics: Collection[str],
    *,
    speed: float | None,
    stopping: Event,
    clock_s: Callable[[], float] = time.monotonic,
) -> int:
    """Send the messages of some topics, and return how many were.

    Args:
        recording: whose messages.
        bus: where to.
        topics: which of them.
        speed: 1 is as they came, 2 twice as fast; None is as fast as the bus takes them.
        stopping: set it to end before.
        clock_s: seconds of a clock that is never set.

    Raises:
        IntegrityError: the recording is damaged; what was before that was sent.
        DiskError: it cannot be read.
    """
    for topic in topics:
        bus.announce(Use(topic, writes=True, node=NODE, message=_MESSAGE))
    sent = 0
    began_s = clock_s()
    for message in recording:
        if message.sample.topic not in topics:
            continue
        due_s = 0.0 if speed is None else began_s + message.at_ns / 1e9 / speed - clock_s()
        if stopping.wait(due_s) if due_s > 0 else stopping.is_set():
            break
        # Not droppable: what was recorded arrives, and a full way slows the replay down.
        bus.publish(message.sample.topic, message.sample.payload, message.sample.attachment)
        sent += 1
    return sent
