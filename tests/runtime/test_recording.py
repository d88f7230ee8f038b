"""Recordings: what is written is read again, whatever ended the writing."""

import os
import stat
import struct
import threading
from itertools import count
from pathlib import Path

import pytest

from mecha.errors import IntegrityError, NoSpaceError, NotFoundError, UsageError
from mecha.runtime.bus import Sample
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.recorder import Recorder
from mecha.runtime.recording import MAGIC, Recorded, Recording, RecordingWriter
from mecha.store.faults import disk_of
from tests.runtime.waiting import wait_for
from tests.service.test_wrong_input import mounted

MESSAGES = [
    Recorded(0, Sample("/camera/rgb", b"first pixels", b'{"seq":0}')),
    Recorded(5_000_000, Sample("/vision/object/detections", b"{}")),
    Recorded(33_000_000, Sample("/camera/rgb", b"", b'{"seq":1}')),
    Recorded(33_000_000, Sample("/empty", b"")),
    Recorded(66_000_000, Sample("/camera/rgb", bytes(range(256)), b'{"seq":2}')),
]


def write(path: Path, messages: list[Recorded] = MESSAGES) -> list[int]:
    """Write a recording; returns where each message ends."""
    ends = []
    with RecordingWriter(path, 1_700_000_000_000_000_000) as writer:
        for message in messages:
            writer.append(message)
            ends.append(writer.size_bytes)
    return ends


def test_a_recording_gives_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "a.rec")

    recording = Recording(tmp_path / "a.rec")

    assert recording.started_at == 1_700_000_000_000_000_000
    assert list(recording) == MESSAGES
    assert list(recording) == MESSAGES
    contents = recording.contents()
    assert {topic: (count.messages, count.payload_bytes) for topic, count in contents.topics.items()} == {
        "/camera/rgb": (3, 268),
        "/vision/object/detections": (1, 2),
        "/empty": (1, 0),
    }
    assert (contents.messages, contents.duration_ns, contents.cut_off_bytes) == (5, 66_000_000, 0)


def test_a_recording_is_for_its_owner_only(tmp_path: Path, umask: int) -> None:
    write(tmp_path / "a.rec")

    assert stat.S_IMODE((tmp_path / "a.rec").stat().st_mode) == 0o600


def test_wherever_a_recording_is_cut_off_only_the_last_message_is_lost(tmp_path: Path) -> None:
    ends = write(tmp_path / "whole.rec")
    data = (tmp_path / "whole.rec").read_bytes()
    cut = tmp_path / "cut.rec"

    for size in range(len(MAGIC) + 8, len(data) + 1):
        cut.write_bytes(data[:size])
        whole = sum(end <= size for end in ends)
        recording = Recording(cut)
        assert list(recording) == MESSAGES[:whole]
        contents = recording.contents()
        assert (contents.messages, contents.cut_off_bytes) == (whole, size - max([26, *ends[:whole]]))


def test_zeros_that_a_power_cut_left_at_the_end_are_passed_over(tmp_path: Path) -> None:
    *_, last, end = write(tmp_path / "a.rec")
    with (tmp_path / "a.rec").open("r+b") as file:
        file.seek(last)
        file.write(bytes(end - last))

    assert list(Recording(tmp_path / "a.rec")) == MESSAGES[:-1]


def test_a_last_message_of_which_a_part_never_reached_the_disk_is_passed_over(tmp_path: Path) -> None:
    end = write(tmp_path / "a.rec")[-1]
    with (tmp_path / "a.rec").open("r+b") as file:
        file.seek(end - 100)
        file.write(bytes(100))

    assert list(Recording(tmp_path / "a.rec")) == MESSAGES[:-1]


def test_damage_is_told_after_the_messages_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    ends = write(path)
    with path.open("r+b") as file:
        file.seek(ends[1] - 1)
        file.write(b"!")

    read = iter(Recording(path))
    assert next(read) == MESSAGES[0]
    with pytest.raises(IntegrityError) as caught:
        next(read)

    assert str(caught.value) == (f"{path}: byte {ends[0] + 8}: got other bytes than were recorded; expected a message")
    assert caught.value.hint == (
        "The messages before it are whole; copy the file again if it came from another machine."
    )


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<QII", 0, 2**31, 0) + b"/a",
        struct.pack("<QII", 0, 2, 1) + b"/a",
        struct.pack("<QII", 0, 2, 0) + b"no",
        struct.pack("<QII", 0, 2, 0) + b"\xff\xff",
        b"short",
    ],
)
def test_a_message_that_says_what_cannot_be_is_damage(tmp_path: Path, head: bytes) -> None:
    import zlib

    path = tmp_path / "a.rec"
    first = struct.pack("<Q", 1_700_000_000_000_000_000)
    path.write_bytes(MAGIC + first + struct.pack("<II", len(head), zlib.crc32(head)) + head)

    with pytest.raises(IntegrityError, match="byte 34: got other bytes"):
        list(Recording(path))
    with pytest.raises(IntegrityError, match="byte 34: got other bytes"):
        Recording(path).contents()


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and so on and on")

    with pytest.raises(IntegrityError) as caught:
        Recording(tmp_path / "a.png")
    with pytest.raises(NotFoundError) as missing:
        Recording(tmp_path / "nothing.rec")

    assert str(caught.value) == (
        f"{tmp_path}/a.png: got a file that begins with b'\\x89PNG\\r\\n\\x1a\\n and so on'; "
        "expected a recording of mecha"
    )
    assert caught.value.hint == "`mecha record FILE` makes one."
    assert str(missing.value) == f"{tmp_path}/nothing.rec: no such file"


def test_a_recording_without_a_message_leaves_no_file(tmp_path: Path) -> None:
    write(tmp_path / "a.rec", [])

    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_text("mine")

    with pytest.raises(UsageError) as caught:
        RecordingWriter(tmp_path / "a.rec", 0)

    assert str(caught.value) == f"{tmp_path}/a.rec: exists; expected a file that is not there yet"
    assert caught.value.hint == "Name another file, or remove this one."
    assert (tmp_path / "a.rec").read_text() == "mine"


def test_a_clock_that_goes_back_puts_no_message_before_another(tmp_path: Path) -> None:
    write(tmp_path / "a.rec", [Recorded(10, Sample("/a", b"1")), Recorded(5, Sample("/a", b"2"))])

    assert [message.at_ns for message in Recording(tmp_path / "a.rec")] == [10, 10]


def test_a_disk_that_fills_in_the_middle_of_a_message_keeps_those_before_it(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m"):
        path = tmp_path / "disk" / "a.rec"
        frame = Sample("/camera/rgb", os.urandom(300_000))
        with RecordingWriter(path, 0) as writer:
            for at_ns in range(3):
                writer.append(Recorded(at_ns, frame))
            with pytest.raises(NoSpaceError) as caught:
                writer.append(Recorded(3, frame))

        assert str(caught.value).startswith(f"{path}: cannot write: no space left: ")
        assert [message.sample for message in Recording(path)] == [frame] * 3
        assert Recording(path).contents().cut_off_bytes == 0


def test_a_recording_ends_before_the_disk_is_full(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with RecordingWriter(path, 0, free=lambda path: 63_000_000) as writer:
        writer.append(MESSAGES[0])
        with pytest.raises(NoSpaceError) as caught:
            writer.sync()

    assert str(caught.value) == (f"{path}: cannot write: 63.0 MB free on {disk_of(path)}, and 64.0 MB stay free")
    assert caught.value.hint == ("What was recorded until now is whole. Free some space, or record less with --topic.")
    assert list(Recording(path)) == MESSAGES[:1]


def test_what_comes_on_a_bus_is_recorded_with_its_time(tmp_path: Path) -> None:
    bus = LocalBus()
    clock = count(1_000, 10)
    with RecordingWriter(tmp_path / "a.rec", 0) as writer:
        recorder = Recorder(writer, clock_ns=lambda: next(clock))
        bus.subscribe_all(recorder.put)
        thread = threading.Thread(target=recorder.run)
        thread.start()
        for number in range(3):
            bus.publish("/numbers", str(number).encode())
        wait_for(lambda: writer.contents.messages == 3)
        recorder.stop()
        thread.join(10)
        bus.publish("/numbers", b"too late")

    assert [(message.at_ns, message.sample.payload) for message in Recording(tmp_path / "a.rec")] == [
        (10, b"0"),
        (20, b"1"),
        (30, b"2"),
    ]


def test_what_waits_when_a_recording_is_stopped_is_written(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.rec", 0) as writer:
        recorder = Recorder(writer)
        for message in MESSAGES:
            recorder.put(message.sample)
        recorder.stop()
        recorder.run()

    assert [message.sample for message in Recording(tmp_path / "a.rec")] == [message.sample for message in MESSAGES]


def test_what_a_slow_disk_cannot_take_is_dropped_and_counted_and_frames_leave_room_for_the_rest(tmp_path: Path) -> None:
    frame, small = Sample("/camera/rgb", bytes(100_000)), Sample("/count", bytes(10_000))
    with RecordingWriter(tmp_path / "a.rec", 0) as writer:
        recorder = Recorder(writer, waiting_bytes=400_000)
        for _ in range(6):
            recorder.put(frame)
        for _ in range(12):
            recorder.put(small)
        assert recorder.dropped == {"/camera/rgb": 2, "/count": 2}
        recorder.stop()
        recorder.run()

    contents = Recording(tmp_path / "a.rec").contents()
    assert {topic: held.messages for topic, held in contents.topics.items()} == {"/camera/rgb": 4, "/count": 10}
