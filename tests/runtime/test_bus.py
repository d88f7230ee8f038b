"""What every bus does, whatever carries it."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mecha.errors import BusyError, ConfigError, DiskError, NetworkError, NotFoundError
from mecha.project import BusSettings
from mecha.runtime.bus import Bus, Sample, Use, checked_topic
from mecha.runtime.bus.inbox import Inbox
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.bus.memory import may_lock_all, pool_bytes
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.bus.pool import SharedPool
from mecha.runtime.bus.zenoh import ZenohBus
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


def connected(sender: Bus, receiver: Bus, topic: str) -> list[Sample]:
    """Subscribe, and return the list that fills; messages are sent until the first one arrives."""
    received: list[Sample] = []
    receiver.subscribe(topic, received.append)
    reach(sender, topic, received)
    return received


def reach(sender: Bus, topic: str, received: list[Sample]) -> None:
    def arrived() -> bool:
        sender.publish(topic, b"are you there?")
        return bool(received)

    wait_for(arrived)
    # The last of several questions may still be on its way.
    sender.publish(topic, b"that is all")
    wait_for(lambda: received[-1].payload == b"that is all")
    received.clear()


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


def test_ordered_messages_come_before_frames_and_none_is_lost() -> None:
    inbox = Inbox(newest=["/left", "/right"])
    for index in range(3):
        inbox.put(Sample("/left", b"%d" % index))
        inbox.put(Sample("/control", b"%d" % index))
        inbox.put(Sample("/right", b"%d" % index))

    taken = [inbox.take(0.0) for _ in range(6)]

    assert [(sample.topic, sample.payload) for sample in taken if sample] == [
        ("/control", b"0"),
        ("/control", b"1"),
        ("/control", b"2"),
        ("/left", b"2"),
        ("/right", b"2"),
    ]
    assert (inbox.dropped("/left"), inbox.dropped("/right"), inbox.dropped("/control")) == (2, 2, 0)


def test_an_ordered_queue_that_nobody_empties_drops_its_oldest_and_counts_them() -> None:
    inbox = Inbox(capacity=3)

    for index in range(5):
        inbox.put(Sample("/control", b"%d" % index))

    assert inbox.dropped("/control") == 2
    assert [getattr(inbox.take(0.0), "payload", None) for _ in range(4)] == [b"2", b"3", b"4", None]


def test_a_waiting_node_can_be_woken() -> None:
    inbox = Inbox()
    taken: list[Sample | None] = []
    thread = threading.Thread(target=lambda: taken.append(inbox.take(60.0)))
    thread.start()

    def woken() -> bool:
        inbox.wake()
        return not thread.is_alive()

    wait_for(woken)
    assert taken == [None]


# The bus of a project


def test_a_project_finds_its_bus_again_and_no_other(tmp_path: Path) -> None:
    mine, other = BusPlace(tmp_path / "mine", os.environ), BusPlace(tmp_path / "other", os.environ)
    assert mine.live_endpoint() is None

    with mine.hosted(BusSettings()) as (_, endpoint):
        assert BusPlace(tmp_path / "mine", os.environ).live_endpoint() == endpoint
        assert other.live_endpoint() is None
        assert other.folder != mine.folder

    assert mine.live_endpoint() is None


def test_members_of_a_bus_hear_each_other_and_not_another_project(tmp_path: Path) -> None:
    with ExitStack() as stack:
        places = {name: BusPlace(tmp_path / name, os.environ) for name in ("mine", "other")}
        hosts = {name: stack.enter_context(place.hosted(BusSettings())) for name, place in places.items()}
        member = places["mine"].join(hosts["mine"][1])
        stack.callback(member.close)
        heard = connected(member, hosts["mine"][0], "/here")
        elsewhere: list[Sample] = []
        hosts["other"][0].subscribe("/here", elsewhere.append)

        member.publish("/here", b"hello")

        wait_for(lambda: heard)
        assert elsewhere == []


def test_nobody_else_can_enter_the_folder_of_a_bus(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with place.hosted(BusSettings()):
        for folder in (place.folder, place.folder.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path, run_time_folder: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    place.folder.parent.mkdir(mode=0o700)
    place.folder.parent.chmod(0o755)

    with pytest.raises(DiskError) as caught, place.hosted(BusSettings()):
        pass

    assert str(caught.value) == (
        f"{run_time_folder}/mecha: got a folder that others can enter; "
        "expected one of mode 0700 that belongs to this user"
    )
    assert caught.value.hint == "Remove it, or set XDG_RUNTIME_DIR to a folder of your own."


def test_a_second_host_is_told_who_the_first_is(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)

    with place.hosted(BusSettings()), pytest.raises(BusyError) as caught, place.hosted(BusSettings()):
        pass

    assert str(caught.value) == f"this project runs already: process {os.getpid()} hosts its bus"
    assert caught.value.hint == "Stop it first; `mecha run NODE` adds one more node to what runs."


def test_joining_where_nobody_is_fails_with_a_sentence(run_time_folder: Path) -> None:
    endpoint = f"unixsock-stream/{run_time_folder}/nobody.sock"

    with pytest.raises(NetworkError) as caught:
        ZenohBus.join(endpoint, listen=f"unixsock-stream/{run_time_folder}/me.sock", timeout_ms=200)

    assert str(caught.value) == f"bus: {endpoint}: nobody answers"
    assert caught.value.hint == "Is `mecha dev` running in this project?"


def test_an_endpoint_that_is_taken_is_named(run_time_folder: Path) -> None:
    endpoint = f"unixsock-stream/{run_time_folder}/bus.sock"
    first = ZenohBus.host(endpoint)
    try:
        with pytest.raises(BusyError) as caught:
            ZenohBus.host(endpoint)
    finally:
        first.close()

    assert str(caught.value) == f"bus: {endpoint}: taken by another process"


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("carrier-pigeon/1.2.3.4:5", "unicast not supported for carrier-pigeon protocol"),
        ("7447", "endpoints must be of the form <protocol>/<address>[?<metadata>][#<config>]: 7447"),
    ],
)
def test_an_endpoint_that_is_none_is_told(run_time_folder: Path, endpoint: str, fault: str) -> None:
    own = f"unixsock-stream/{run_time_folder}/bus.sock"

    with pytest.raises(NetworkError) as caught:
        ZenohBus.host(own, listen=[endpoint])

    assert str(caught.value) == f"bus: {own}, {endpoint}: {fault}"
    assert caught.value.hint.startswith('An endpoint is written as in "tcp/192.168.1.5:7447"; see bus.listen')


def test_two_machines_talk_where_the_settings_say_so(tmp_path: Path, free_port: Callable[[], int]) -> None:
    address = f"tcp/127.0.0.1:{free_port()}"
    with (
        BusPlace(tmp_path / "robot", os.environ).hosted(BusSettings(listen=(address,))) as (robot, _),
        BusPlace(tmp_path / "desk", os.environ).hosted(BusSettings(connect=(address,))) as (desk, _),
    ):
        received = connected(robot, desk, "/vision/object/detections")
        robot.publish("/vision/object/detections", b"{}")
        wait_for(lambda: received)


@pytest.mark.parametrize(
    ("lockable", "free", "expected"),
    [
        (None, None, 32 * 1024 * 1024),
        (None, 1 << 40, 32 * 1024 * 1024),
        (8 * 1024 * 1024, 1 << 40, 8 * 1024 * 1024 - 1_500_000),
        (None, 64 * 1024 * 1024, 32 * 1024 * 1024),
        (None, 20_000_000, 10_000_000),
        (65536, 1 << 40, 0),
        (None, 0, 0),
    ],
)
def test_the_pool_of_shared_memory_fits_what_the_system_gives(
    lockable: int | None, free: int | None, expected: int
) -> None:
    assert pool_bytes(lockable, free) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Name:\tpython\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n", True),
        ("Name:\tpython\nCapEff:\t00000000a80425fb\n", False),
        ("CapEff:\t0000000000004000\n", True),
        ("CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n", False),
        ("", False),
    ],
)
def test_root_in_a_container_has_a_limit_too(status: str, expected: bool) -> None:
    assert may_lock_all(status) is expected


def test_a_payload_that_finds_no_room_in_shared_memory_is_sent_as_it_is() -> None:
    import zenoh

    pool = SharedPool(zenoh, 1_000_000)

    held = pool.holding(bytes(range(250)) * 3000)
    assert bytes(held) == bytes(range(250)) * 3000
    assert pool.holding(bytes(750_000)) is None
    del held
    assert pool.holding(bytes(750_000)) is not None
    assert pool.holding(bytes(1_000_001)) is None
    assert pool.holding(b"small") is None
    assert SharedPool(zenoh, 0).holding(bytes(100_000)) is None


def test_a_new_host_removes_sockets_of_processes_that_are_gone_and_leaves_those_of_members(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with place.hosted(BusSettings()):
        pass
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = [place.folder / f"{int(gone.stdout)}.sock", place.folder / "bus.sock.lock"]
    kept = [place.folder / f"{os.getpid()}.sock", place.folder / f"{os.getpid()}.sock.lock"]
    for file in (*left, *kept):
        file.touch()

    with place.hosted(BusSettings()):
        assert not left[0].exists()
        assert all(file.exists() for file in kept)


def test_a_bus_that_nobody_hosts_cannot_be_joined(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught, BusPlace(tmp_path, os.environ).joined():
        pass

    assert str(caught.value) == "nothing runs in this project: nobody hosts its bus"
    assert caught.value.hint == "Start its nodes first, by `mecha dev` in another terminal."


def test_who_joins_a_bus_that_runs_leaves_nothing_behind(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with place.hosted(BusSettings()) as (host, _):
        with place.joined() as bus:
            received = connected(host, bus, "/here")
            host.publish("/here", b"hello")
            wait_for(lambda: received)
        assert {file.name for file in place.folder.glob("*.sock")} == {"bus.sock"}


def test_a_member_hears_the_next_host_of_its_project(tmp_path: Path) -> None:
    place = BusPlace(tmp_path, os.environ)
    with ExitStack() as stack:
        with place.hosted(BusSettings()) as (_, endpoint):
            member = place.join(endpoint)
            stack.callback(member.close)
        with place.hosted(BusSettings()) as (host, _):
            received: list[Sample] = []
            member.subscribe("/here", received.append)

            def arrived() -> bool:
                host.publish("/here", b"hello")
                return bool(received)

            wait_for(arrived, timeout_s=60)


def test_larger_payloads_find_room_after_smaller_ones() -> None:
    import zenoh

    pool = SharedPool(zenoh, 1_000_000)
    held = [pool.holding(bytes(40_000 + number)) for number in range(20)]
    assert None not in held
    assert not pool.read_out(0.0)

    held.clear()

    assert pool.read_out(0.0)
    assert pool.holding(bytes(900_000)) is not None


def test_the_last_frame_of_a_process_that_ends_is_delivered(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from mecha.runtime.bus.place import BusPlace\n"
        "with BusPlace(Path(sys.argv[1]), os.environ).joined() as bus:\n"
        "    while not bus.is_heard('/camera/rgb'): pass\n"
        "    bus.publish('/camera/rgb', bytes(6_220_800), droppable=True)\n"
    )
    received: list[Sample] = []
    with BusPlace(tmp_path, os.environ).hosted(BusSettings()) as (host, _):
        host.subscribe("/camera/rgb", received.append)
        for number in range(1, 4):
            subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
            wait_for(lambda number=number: len(received) == number)  # type: ignore[misc]
