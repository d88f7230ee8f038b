"""What goes over topics, for people who look."""

import pytest

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
    assert meter.pace() == Pace(0, None, None, None, None, 0)
    for seq, now_s in ((0, 10.0), (1, 10.1), (4, 10.4), (5, 10.5)):
        meter.add(Sample("/camera/rgb", bytes(1000), b'{"seq":%d}' % seq), now_s)

    pace = meter.pace()

    assert (pace.messages, pace.missing) == (4, 2)
    assert pace.hz == pytest.approx(6)
    assert pace.shortest_ms == pytest.approx(100)
    assert pace.longest_ms == pytest.approx(300)
    assert pace.bytes_per_s == pytest.approx(6000)


@pytest.mark.parametrize("header", [b"", b"\xff", b"[1]", b'{"seq":"a"}', b"[" * 100_000])
def test_a_message_without_a_number_misses_nothing(header: bytes) -> None:
    meter = PaceMeter()
    meter.add(Sample("/a", b"", header), 0.0)
    meter.add(Sample("/a", b"", header), 1.0)

    assert meter.pace().missing == 0


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
