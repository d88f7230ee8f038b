"""Replays: which topics, to whom, and when."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mecha.errors import NotFoundError, UsageError
from mecha.runtime.bus import Sample, Use
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.recording import Recorded, Recording, RecordingWriter
from mecha.runtime.replay import NODE, Cast, cast_of, parse_speed, play, wait_for_readers

RECORDED = ("/camera/rgb", "/vision/object/detections")
DETECTOR = (
    Use("/camera/rgb", writes=False, node="object-detector", message="FrameMessage"),
    Use("/vision/object/detections", writes=True, node="object-detector", message="DetectionsMessage"),
)
CAMERA = Use("/camera/rgb", writes=True, node="camera", message="FrameMessage")


class Clock:
    """Time that passes while somebody waits for it, and is the `Event` that is waited for."""

    def __init__(self, ends_at: float = float("inf")) -> None:
        self.now = 100.0
        self.ends_at = ends_at
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        self.waits.append(round(timeout, 6))
        self.now += timeout
        return self.is_set()

    def is_set(self) -> bool:
        return self.now >= self.ends_at


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    with RecordingWriter(tmp_path / "a.rec", 0) as writer:
        for number, at_ms in enumerate((0, 40, 40, 100)):
            writer.append(Recorded(at_ms * 1_000_000, Sample("/camera/rgb", b"%d" % number, b"header")))
            writer.append(Recorded(at_ms * 1_000_000, Sample("/vision/object/detections", b"{}")))
    return Recording(tmp_path / "a.rec")


def played(recording: Recording, clock: Clock, speed: float | None, **options: Any) -> tuple[int, list[Sample]]:
    bus, heard = LocalBus(), list[Sample]()
    bus.subscribe_all(heard.append)
    stopping: Any = clock
    sent = play(recording, bus, ("/camera/rgb",), speed=speed, stopping=stopping, clock_s=clock, **options)
    assert bus.uses() == (Use("/camera/rgb", writes=True, node=NODE, message="recorded"),)
    return sent, heard


def test_messages_are_sent_as_they_were(recording: Recording) -> None:
    sent, heard = played(recording, Clock(), 1.0)

    assert sent == 4
    assert heard == [Sample("/camera/rgb", b"%d" % number, b"header") for number in range(4)]


@pytest.mark.parametrize(
    ("speed", "waits"),
    [(1.0, [0.04, 0.06]), (2.0, [0.02, 0.03]), (0.5, [0.08, 0.12]), (None, [])],
)
def test_messages_are_sent_when_they_came(recording: Recording, speed: float | None, waits: list[float]) -> None:
    clock = Clock()

    played(recording, clock, speed)

    assert clock.waits == waits


def test_a_replay_can_be_ended(recording: Recording) -> None:
    assert played(recording, Clock(ends_at=100.05), 1.0)[0] == 3
    assert played(recording, Clock(ends_at=0.0), None)[0] == 0


def test_what_a_running_node_writes_is_left_out() -> None:
    assert cast_of(RECORDED, (), DETECTOR, where="a.rec") == Cast(
        ("/camera/rgb",), {"/vision/object/detections": "object-detector"}
    )
    assert cast_of(RECORDED, (), (), where="a.rec") == Cast(RECORDED, {})


def test_a_topic_that_is_named_is_played_whoever_writes_it() -> None:
    named = ("/vision/object/detections", "/vision/object/detections")
    assert cast_of(RECORDED, named, DETECTOR, where="a.rec") == Cast(("/vision/object/detections",), {})


def test_a_replay_of_nothing_says_who_writes_everything() -> None:
    with pytest.raises(UsageError) as caught:
        cast_of(RECORDED, (), (CAMERA, *DETECTOR), where="a.rec")

    assert str(caught.value) == (
        "a.rec: nodes that run write every topic of it: "
        "/camera/rgb by camera and /vision/object/detections by object-detector"
    )
    assert caught.value.hint == (
        "Run only those that are to read it, as in `mecha dev object-detector`; or name topics with --topic."
    )


def test_a_topic_that_is_not_in_the_recording_is_told() -> None:
    with pytest.raises(NotFoundError) as caught:
        cast_of(RECORDED, ("/camera/rbg",), (), where="a.rec")
    with pytest.raises(NotFoundError) as empty:
        cast_of((), (), (), where="a.rec")

    assert str(caught.value) == 'a.rec: no topic "/camera/rbg"; did you mean "/camera/rgb"?'
    assert caught.value.hint == "It holds /camera/rgb, /vision/object/detections."
    assert str(empty.value) == "a.rec: holds no message"


def test_topics_that_nobody_reads_are_told() -> None:
    bus = LocalBus()
    bus.subscribe("/camera/rgb", lambda sample: None)

    assert wait_for_readers(bus, RECORDED, DETECTOR, Event()) == ("/vision/object/detections",)


@pytest.mark.parametrize(("text", "speed"), [("1", 1.0), ("0.5", 0.5), ("2x", 2.0)])
def test_a_speed_is_a_number(text: str, speed: float) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "fast", "inf", "nan", ""])
def test_what_is_no_speed_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_speed(text)

    assert str(caught.value) == f'--speed: got "{text}"; expected a number more than 0, such as 0.5 or 2'
