"""Addresses of cameras, their lasting names, and when their frames were taken."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.errors import NotFoundError
from mecha.runtime.sources import open_source
from mecha.runtime.sources.address import why_no_stream, without_password
from mecha.runtime.sources.device import cameras_here, device_number, lasting_name
from mecha.runtime.sources.taken import StreamClock, device_age_s
from tests.runtime.rtsp_server import RtspCamera


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:p@ss@host:554/a", "rtsp://user:***@host:554/a"),
        ("rtsp://user:pa/ss@host/a", "rtsp://user:***@host/a"),
        ("rtsp://host:554/a@b", "rtsp://host:554/a@b"),
        ("rtsp://host/live?user=me&password=secret&channel=1", "rtsp://host/live?user=me&password=***&channel=1"),
        ("rtsp://host/user=me_password=secret_channel=1.sdp", "rtsp://host/user=me_password=***"),
        ("rtsp://host/live?token=abc", "rtsp://host/live?token=***"),
        ("rtsp://host/compass=north", "rtsp://host/compass=north"),
    ],
)
def test_a_password_is_hidden_wherever_cameras_take_one(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_an_address_that_is_none_is_told_without_its_password() -> None:
    with pytest.raises(NotFoundError) as caught:
        open_source("rstp://user:secret@host/live")

    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith("source rstp://user:***@host/live: tried it as a file")


@contextmanager
def answering(status: str) -> Iterator[int]:
    """A camera that answers every request with one line."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(f"{status}\r\nCSeq: 1\r\n\r\n".encode() if status else b"")

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


@pytest.mark.parametrize(
    ("who", "status", "words"),
    [
        ("", "RTSP/1.0 401 Unauthorized", "{at} asks for a user and a password: rtsp://USER:PASSWORD@{at}/live"),
        (
            "me:secret@",
            "RTSP/1.0 401 Unauthorized",
            "{at} does not take this user and password, or has nothing at /live",
        ),
        ("", "RTSP/1.0 404 Not Found", "{at} has nothing at /live"),
        ("", "RTSP/1.0 503 Service Unavailable", '{at} answers "RTSP/1.0 503 Service Unavailable"'),
        ("", "HTTP/1.1 400 Bad Request", '{at} answers "HTTP/1.1 400 Bad Request"'),
        ("", "", "{at} takes the connection and says nothing"),
    ],
)
def test_a_camera_that_gives_no_stream_is_asked_why(who: str, status: str, words: str) -> None:
    with answering(status) as port:
        said = why_no_stream(f"rtsp://{who}127.0.0.1:{port}/live")

    assert said == words.format(at=f"127.0.0.1:{port}")


def test_nobody_listens_and_no_such_machine_are_told_apart(free_port: Callable[[], int]) -> None:
    port = free_port()

    assert why_no_stream(f"rtsp://127.0.0.1:{port}/live") == f"nothing listens at 127.0.0.1:{port}"
    assert (
        why_no_stream("rtsp://no-such-camera.invalid/live")
        == 'no machine is known by the name "no-such-camera.invalid"'
    )
    assert why_no_stream("rtsp://host:port/live") == "the address has a part that is none"
    assert why_no_stream("udp://127.0.0.1:5000") == "nothing came"


OPEN = """
import sys
from mecha.errors import NetworkError
from mecha.runtime.sources import open_source
try:
    open_source(sys.argv[1])
except NetworkError as error:
    print(error)
"""


def test_a_wrong_password_is_told_and_not_shown() -> None:
    with RtspCamera(password="right-one") as camera:
        # In a process of its own: where OpenCV was loaded before, FFmpeg speaks for itself.
        command = [sys.executable, "-c", OPEN, camera.address.replace("right-one", "wrong-one")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    at = f"127.0.0.1:{camera.port}"
    assert done.stdout.startswith(f"rtsp://user:***@{at}/live: no stream answers (")
    assert done.stdout.endswith(f" s): {at} does not take this user and password, or has nothing at /live\n")
    assert done.stderr == ""


class Machine:
    """The folders in which a system tells of its cameras."""

    def __init__(self, root: Path) -> None:
        self.dev = root / "dev"
        self.sys_class = root / "sys/class/video4linux"
        for folder in (self.dev / "v4l/by-id", self.dev / "v4l/by-path", self.sys_class):
            folder.mkdir(parents=True)

    def plug(self, number: int, port: str, serial: str = "") -> None:
        """Plug in a camera of the one make there is."""
        node = self.dev / f"video{number}"
        node.touch()
        interface = self.sys_class.parents[1] / f"usb/{port}/{port}:1.0"
        interface.mkdir(parents=True)
        (self.sys_class / node.name).mkdir()
        (self.sys_class / node.name / "device").symlink_to(interface)
        if serial:
            (interface.parent / "serial").write_text(serial)
        (self.dev / f"v4l/by-path/usb-{port}-video-index0").symlink_to(f"../../video{number}")
        by_id = self.dev / f"v4l/by-id/usb-Make_Camera{serial and '_' + serial}-video-index0"
        if not by_id.exists():
            by_id.symlink_to(f"../../video{number}")

    def lasting(self, text: str) -> str:
        name = lasting_name(text, dev=self.dev, sys_class=self.sys_class)
        return str(Path(name).relative_to(self.dev)) if name.startswith(str(self.dev)) else name


def test_a_camera_is_found_again_by_its_serial_number_and_else_by_its_port(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.plug(0, "1-2")
    machine.plug(1, "1-3")
    machine.plug(2, "1-4", serial="A7")
    (machine.dev / "video3").touch()

    assert machine.lasting("0") == "v4l/by-path/usb-1-2-video-index0"
    assert machine.lasting(str(machine.dev / "video1")) == "v4l/by-path/usb-1-3-video-index0"
    assert machine.lasting("2") == "v4l/by-id/usb-Make_Camera_A7-video-index0"
    assert machine.lasting("3") == "3"
    assert machine.lasting("/nowhere") == "/nowhere"
    named = str(machine.dev / "v4l/by-id/usb-Make_Camera_A7-video-index0")
    assert lasting_name(named, dev=machine.dev, sys_class=machine.sys_class) == named


def test_a_camera_that_came_back_under_another_number_is_the_same_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.plug(2, "1-4", serial="A7")
    name = lasting_name("2", dev=machine.dev, sys_class=machine.sys_class)
    assert device_number(name, dev=machine.dev) == 2

    Path(name).unlink()
    assert device_number(name, dev=machine.dev) is None
    (machine.dev / "video5").touch()
    Path(name).symlink_to("../../video5")

    assert device_number(name, dev=machine.dev) == 5
    assert device_number("7") == 7
    assert cameras_here(dev=machine.dev) == (str(machine.dev / "video2"), str(machine.dev / "video5"))


def test_frames_that_were_held_up_are_dated_as_far_apart_as_they_were_taken() -> None:
    clock = StreamClock()
    on_time = [clock.age_s(index / 10, 100.0 + index / 10) for index in range(5)]

    held_up = [clock.age_s(position, 101.4) for position in (0.5, 0.7, 0.9)]

    assert on_time == pytest.approx([0.0] * 5)
    assert held_up == pytest.approx([0.9, 0.7, 0.5], abs=0.001)


@pytest.mark.parametrize("position_s", [0.0, 0.3], ids=["a clock that stands still", "one that began again"])
def test_a_clock_that_says_nothing_dates_frames_when_they_are_read(position_s: float) -> None:
    clock = StreamClock()
    clock.age_s(0.4, 100.0)

    assert [clock.age_s(position_s, 100.0 + index) for index in range(3)] == [0.0, 0.0, 0.0]


@given(
    st.lists(st.floats(0, 0.2), min_size=2, max_size=200),
    st.floats(-2e-4, 2e-4),
    st.floats(0, 1e6),
)
def test_frames_are_never_dated_later_than_they_came_nor_in_another_order(
    delays: list[float], drift: float, start: float
) -> None:
    clock = StreamClock()
    came: list[float] = []
    dated: list[float] = []
    for index, delay in enumerate(delays):
        taken_s = index / 30
        came.append(max([start + taken_s * (1 + drift) + delay, *came[-1:]]))
        dated.append(came[-1] - clock.age_s(taken_s, came[-1]))

    assert all(at <= arrived + 1e-6 for at, arrived in zip(dated, came, strict=True))
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(dated))
    # No frame is dated earlier than it was taken, by the drift at most.
    assert all(at >= start + index / 30 - 0.02 for index, at in enumerate(dated))


@pytest.mark.parametrize(
    ("stamp_s", "age_s"), [(99.96, 0.04), (0.0, 0.0), (100.5, 0.0), (1.7e9, 0.0), (12.0, 0.0)],
    ids=["its own", "none", "later than now", "another clock", "long ago"],
)  # fmt: skip
def test_the_stamp_of_a_driver_is_taken_where_it_can_be_one(stamp_s: float, age_s: float) -> None:
    assert device_age_s(stamp_s, 100.0) == pytest.approx(age_s)
