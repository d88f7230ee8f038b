"""What every bus does, whatever carries it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mecha.errors import ConfigError
from mecha.runtime.bus import Bus, Sample, Use, checked_topic
from mecha.runtime.bus.inbox import Inbox
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.bus.zenoh import ZenohBus
from tests.runtime.bus_ends import connected, reach
from tests.runtime.waiting import wait_for

Pair = tuple[Bus, Bus]


@pytest.fixture(params=["local", "zenoh"])
def buses(request: pytest.FixtureRequest, run_time_folder: Path) -> Iterator[Pair]:
    """Two ends of one bus."""
    if request.param == "local":
        bus = LocalBus()
        yield bus, bus
        bus.close()
        return
    with ExitStack() as stack:
        router = ZenohBus.host(f"unixsock-stream/{run_time_folder}/bus.sock")
        stack.callback(router.close)
        ends = []
        for name in ("a", "b"):
            end = ZenohBus.join(
                f"unixsock-stream/{run_time_folder}/bus.sock", listen=f"unixsock-stream/{run_time_folder}/{name}.sock"
            )
            stack.callback(end.close)
            ends.append(end)
        yield ends[0], ends[1]


def test_a_message_arrives_with_its_topic_and_attachment(buses: Pair) -> None:
    sender, receiver = buses
    received = connected(sender, receiver, "/camera/rgb")

    sender.publish("/camera/rgb", b"pixels", b"header")

    wait_for(lambda: received)
    assert received == [Sample("/camera/rgb", b"pixels", b"header")]


@pytest.mark.parametrize("size", [0, 1, 70_000, 6_220_800])
@pytest.mark.parametrize("droppable", [True, False])
def test_a_payload_of_any_size_arrives_as_it_was(buses: Pair, size: int, droppable: bool) -> None:
    sender, receiver = buses
    received = connected(sender, receiver, "/blob")
    payload = os.urandom(size)

    sender.publish("/blob", payload, droppable=droppable)

    wait_for(lambda: received)
    assert received[0].payload == payload
    assert received[0].attachment == b""


def test_messages_of_one_topic_arrive_in_order(buses: Pair) -> None:
    sender, receiver = buses
    received = connected(sender, receiver, "/order")

    # Small ones go through the socket, large ones through shared memory where there is some.
    for index in range(300):
        sender.publish("/order", str(index).encode() * (20_000 if index % 7 == 0 else 1), str(index).encode())

    wait_for(lambda: len(received) == 300)
    assert [int(sample.attachment) for sample in received] == list(range(300))


def test_topics_do_not_mix(buses: Pair) -> None:
    sender, receiver = buses
    one = connected(sender, receiver, "/one")
    other = connected(sender, receiver, "/one/more")

    sender.publish("/one/more", b"more")
    sender.publish("/one", b"one")

    wait_for(lambda: one and other)
    assert [sample.payload for sample in one] == [b"one"]
    assert [sample.payload for sample in other] == [b"more"]


def test_every_subscriber_gets_every_message(buses: Pair) -> None:
    sender, receiver = buses
    lists: list[list[Sample]] = [[], [], []]
    for received, end in zip(lists, (sender, receiver, receiver), strict=True):
        end.subscribe("/all", received.append)
    for received in lists:
        reach(sender, "/all", received)

    sender.publish("/all", b"hello")

    for received in lists:
        wait_for(lambda received=received: received and received[-1].payload == b"hello")  # type: ignore[misc]
        assert [sample.payload for sample in received].count(b"hello") == 1


def test_a_late_subscriber_gets_what_comes_after_it(buses: Pair) -> None:
    sender, receiver = buses
    sender.publish("/late", b"before")

    received = connected(sender, receiver, "/late")
    sender.publish("/late", b"after")

    wait_for(lambda: received)
    assert [sample.payload for sample in received] == [b"after"]


def test_a_closed_subscription_gets_nothing_more(buses: Pair) -> None:
    sender, receiver = buses
    kept = connected(sender, receiver, "/news")
    ended: list[Sample] = []
    subscription = receiver.subscribe("/news", ended.append)
    reach(sender, "/news", ended)
    ended.clear()
    kept.clear()

    subscription.close()
    subscription.close()
    sender.publish("/news", b"later")

    wait_for(lambda: kept)
    assert ended == []


def test_a_publisher_that_joins_late_is_heard(buses: Pair) -> None:
    sender, receiver = buses
    received: list[Sample] = []

    receiver.subscribe("/late", received.append)
    wait_for(lambda: sender.is_heard("/late"))
    sender.publish("/late", b"first")

    wait_for(lambda: received)
    assert [sample.payload for sample in received] == [b"first"]


def test_who_subscribes_to_everything_gets_topics_that_appear_later(buses: Pair) -> None:
    sender, receiver = buses
    received: list[Sample] = []
    subscription = receiver.subscribe_all(received.append)
    reach(sender, "/known", received)

    sender.publish("/camera/rgb", bytes(100_000), b"header")
    sender.publish("/vision/object/detections", b"{}")

    wait_for(lambda: len(received) == 2)
    assert [(sample.topic, sample.attachment) for sample in received] == [
        ("/camera/rgb", b"header"),
        ("/vision/object/detections", b""),
    ]
    kept: list[Sample] = []
    receiver.subscribe("/known", kept.append)
    subscription.close()
    received.clear()
    reach(sender, "/known", kept)
    assert received == []


def test_a_topic_is_heard_while_somebody_subscribes(buses: Pair) -> None:
    sender, receiver = buses
    assert not sender.is_heard("/heard")

    subscription = receiver.subscribe("/heard", lambda sample: None)
    wait_for(lambda: sender.is_heard("/heard"))

    subscription.close()
    wait_for(lambda: not sender.is_heard("/heard"))


def test_who_uses_a_topic_is_told_at_every_end_and_never_as_a_message(buses: Pair) -> None:
    sender, receiver = buses
    heard: list[Sample] = []
    receiver.subscribe_all(heard.append)
    uses = {
        Use("/camera/rgb", writes=True, node="camera", message="FrameMessage"),
        Use("/camera/rgb", writes=False, node="object-detector", message="FrameMessage"),
        Use("/vision/object/control", writes=False, node="object-detector", message="ControlMessage"),
    }

    for use in uses:
        sender.announce(use)
        sender.announce(use)

    for end in buses:
        wait_for(lambda end=end: end.uses(0.1) == tuple(sorted(uses)))  # type: ignore[misc]
    assert heard == []


def test_a_use_ends_with_its_end_of_the_bus(buses: Pair) -> None:
    sender, receiver = buses
    sender.announce(Use("/here", writes=True, node="ticker", message="JsonMessage"))
    wait_for(lambda: receiver.uses(0.1))

    sender.close()

    wait_for(lambda: receiver.uses(0.1) == ())


def test_a_publisher_that_nobody_hears_is_not_held_up(buses: Pair) -> None:
    sender, _ = buses

    for _ in range(50):
        sender.publish("/nobody", bytes(100_000), droppable=True)


def test_a_bus_may_be_closed_twice(buses: Pair) -> None:
    sender, _ = buses
    sender.subscribe("/a", lambda sample: None)

    sender.close()
    sender.close()


def test_after_its_end_nobody_listens_to_it(buses: Pair) -> None:
    sender, receiver = buses
    receiver.subscribe("/a", lambda sample: None)
    sender.publish("/a", b"before")

    sender.close()

    for topic in ("/a", "/new"):
        sender.publish(topic, b"after")
        sender.publish(topic, b"after", droppable=True)
        assert not sender.is_heard(topic)


@pytest.mark.parametrize("topic", ["", "/", "camera", "/camera/", "//camera", "/camera/*", "/a b", "/a/**", "/a$*"])
def test_what_is_no_topic_is_refused(buses: Pair, topic: str) -> None:
    sender, receiver = buses
    sentence = f'topic: got "{topic}"; expected words that each begin with a slash, as in /camera/rgb'

    with pytest.raises(ConfigError) as published:
        sender.publish(topic, b"")
    with pytest.raises(ConfigError) as subscribed:
        receiver.subscribe(topic, lambda sample: None)
    with pytest.raises(ConfigError, match="topic: got"):
        receiver.is_heard(topic)
    with pytest.raises(ConfigError, match="topic: got"):
        sender.announce(Use(topic, writes=True, node="camera", message="FrameMessage"))

    assert str(published.value) == str(subscribed.value) == sentence
    assert published.value.hint == "A word holds letters, digits, `_`, `.` and `-`."


def test_a_topic_is_words_with_slashes() -> None:
    assert checked_topic("/vision/object/detections_2.raw-x") == "/vision/object/detections_2.raw-x"


def test_the_newest_frame_wins_and_every_drop_is_counted(buses: Pair) -> None:
    sender, receiver = buses
    inbox = Inbox(newest=["/frames"])
    seen: list[Sample] = []
    receiver.subscribe("/frames", inbox.put)
    receiver.subscribe("/frames", seen.append)
    reach(sender, "/frames", seen)
    while inbox.take(0.0) is not None:
        pass
    before = inbox.dropped("/frames")

    for index in range(20):
        sender.publish("/frames", bytes(50_000), str(index).encode())
    wait_for(lambda: len(seen) == 20)

    newest = inbox.take(1.0)
    assert newest is not None
    assert newest.attachment == b"19"
    assert inbox.take(0.0) is None
    assert inbox.dropped("/frames") - before == 19
