"""What goes over topics, for people who look."""

from collections.abc import Iterable

import pytest

from mecha.cli.topic import pace_text
from mecha.runtime.bus import Sample, Use
from mecha.runtime.topics import Pace, PaceMeter, TopicRow, readable, topic_rows


def test_a_topic_has_its_nodes_its_message_and_its_rate() -> None:
    uses = (
        Use("/camera/rgb", writes=False, node="object-detector", message="FrameMessage"),
        Use("/camera/rgb", writes=False, node="alarm", message="PictureMessage"),
        Use("/camera/rgb", writes=True, node="camera", message="FrameMessage"),
        Use("/vision/object/control", writes=False, node="object-detector", message="ControlMessage"),
    )

    assert topic_rows(uses, {"/camera/rgb": 30, "/from/elsewhere": 1}, listened_s=2.0) == (
        TopicRow("/camera/rgb", "FrameMessage", 15.0, ("camera",), ("alarm", "object-detector")),
        TopicRow("/from/elsewhere", None, 0.5, (), ()),
        TopicRow("/vision/object/control", "ControlMessage", 0.0, (), ("object-detector",)),
    )


def test_a_pace_is_that_of_the_messages_that_came() -> None:
    meter = PaceMeter()
    assert meter.pace(9.0) == Pace(0, None, None, None, None, None, 0)
    for seq, now_s in ((0, 10.0), (1, 10.1), (4, 10.4), (5, 10.5)):
        meter.add(Sample("/camera/rgb", bytes(1000), b'{"seq":%d}' % seq), now_s)

    pace = meter.pace(10.6)

    assert (pace.messages, pace.missing) == (4, 2)
    assert pace.silent_s == pytest.approx(0.1)
    assert pace.hz == pytest.approx(6)
    assert pace.shortest_ms == pytest.approx(100)
    assert pace.longest_ms == pytest.approx(300)
    assert pace.bytes_per_s == pytest.approx(6000)


def paced(arrivals: Iterable[float]) -> PaceMeter:
    meter = PaceMeter()
    for now_s in arrivals:
        meter.add(Sample("/a", bytes(1000)), now_s)
    return meter


def test_a_rate_is_that_of_the_last_five_seconds() -> None:
    meter = paced(n / 15 for n in range(300))
    assert meter.pace(20.0).hz == pytest.approx(15)
    for now_s in (21.0, 22.0, 23.0, 24.0, 25.0):
        meter.add(Sample("/a", bytes(1000)), now_s)

    pace = meter.pace(25.1)

    assert (pace.hz, pace.longest_ms, pace.bytes_per_s) == pytest.approx((1, 1000, 1000))


def test_a_rate_falls_while_one_is_overdue() -> None:
    meter = paced((10.0, 10.5, 11.0))

    assert [meter.pace(now_s).hz for now_s in (11.0, 11.5, 13.0)] == pytest.approx([2, 2, 2 / 3])


def test_of_messages_that_come_seldom_the_last_two_are_a_rate() -> None:
    assert paced((0.0, 10.0, 30.0)).pace(31.0).hz == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("arrivals", "now_s", "shown"),
    [
        ((), 9.0, "nothing yet"),
        ((1.0,), 2.0, "one message yet"),
        ((1.0,), 8.0, "nothing for 7 s"),
        ((1.0, 1.1), 8.1, "nothing for 7 s"),
        ((1.0, 1.5), 1.6, "2.0 a second, 500.0 to 500.0 ms apart, 2.0 kB a second, 0 missing"),
    ],
)
def test_a_pace_is_told_on_one_line(arrivals: tuple[float, ...], now_s: float, shown: str) -> None:
    assert pace_text(paced(arrivals).pace(now_s)) == shown


def test_silence_is_in_the_json_too() -> None:
    assert paced((1.0, 1.1)).pace(8.1).to_json() == {
        "messages": 2,
        "hz": 0.0,
        "shortest_ms": None,
        "longest_ms": None,
        "bytes_per_s": 0.0,
        "silent_s": 7.0,
        "missing": 0,
    }


@pytest.mark.parametrize("header", [b"", b"\xff", b"[1]", b'{"seq":"a"}', b"[" * 100_000])
def test_a_message_without_a_number_misses_nothing(header: bytes) -> None:
    meter = PaceMeter()
    meter.add(Sample("/a", b"", header), 0.0)
    meter.add(Sample("/a", b"", header), 1.0)

    assert meter.pace(1.0).missing == 0


@pytest.mark.parametrize(
    ("sample", "shown"),
    [
        (Sample("/a", b'{"cones":2}'), {"topic": "/a", "message": {"cones": 2}}),
        (Sample("/a", b"null"), {"topic": "/a", "message": None}),
        (Sample("/a", bytes(12), b'{"seq":3}'), {"topic": "/a", "header": {"seq": 3}, "bytes": 12}),
        (Sample("/a", bytes(12), b"\xff\xff"), {"topic": "/a", "header": {"bytes": 2}, "bytes": 12}),
        (Sample("/a", b"\x00\x01"), {"topic": "/a", "bytes": 2}),
    ],
)
def test_a_message_is_shown_as_what_it_says(sample: Sample, shown: dict[str, object]) -> None:
    assert readable(sample) == shown
