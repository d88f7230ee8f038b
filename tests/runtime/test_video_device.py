"""A camera of this machine, as OpenCV reads it through V4L2; video_device.c does what the kernel would do."""

import contextlib
import itertools
import logging
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from mecha.project import bundled_dir
from mecha.runtime.sources import open_source
from mecha.runtime.sources.feed import Feed
from tests.runtime.projects import add_node, make_project
from tests.runtime.supervision import PATIENCE_S, Played
from tests.runtime.waiting import wait_for

SOURCE = Path(__file__).with_name("video_device.c")
PIXELS = 64 * 48 * 3
LATE_S = 0.2

WITNESS = """
    import time

    from mecha import FrameMessage, JsonMessage, Node
    from mecha.runtime.messages import CameraStateMessage

    class Witness(Node):
        inputs = {"/camera/rgb": FrameMessage, "/camera/state": CameraStateMessage}

        def setup(self) -> None:
            self.stale = None

        def step(self, message) -> None:
            if isinstance(message, CameraStateMessage):
                if message.stale != self.stale:
                    self.log.info("stale %s: %s", message.stale, message.reason)
                self.stale = message.stale
            else:
                age_ms = (time.time_ns() - message.captured_at) / 1e6
                self.log.info("frame %d of %s, brightness %d, age %d", message.seq, message.source,
                              message.frame_bgr[0, 0, 0], age_ms)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for the kernel; None of it can be built on other systems."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None or not Path("/usr/include/linux/videodev2.h").is_file():
        pytest.skip("needs Linux, a C compiler and the headers of the kernel")
    built = tmp_path_factory.mktemp("camera") / "video_device.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(built), str(SOURCE), "-ldl"], check=True)
    return built


class VideoDevice:
    """A camera that is plugged in as long as the context lasts, and shows how many frames it gave by their brightness.

    Attributes:
        flowing: cleared, it hangs.
        opened: how often.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._path = folder / f"video{number}"
        self.flowing = threading.Event()
        self.flowing.set()
        self.opened = 0
        self._unplugged = threading.Event()

    def __enter__(self) -> Self:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind(str(self._path))
        self._server.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink()
        self._unplugged.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                opened = self._server.accept()[0]
                self.opened += 1
                self._threads.append(threading.Thread(target=self._send, args=(opened,)))
                self._threads[-1].start()

    def _send(self, opened: socket.socket) -> None:
        with opened, contextlib.suppress(OSError):
            opened.setblocking(False)
            for number in itertools.count():
                if self._unplugged.wait(1 / 30):
                    return
                if self.flowing.is_set():
                    taken_us = time.monotonic_ns() // 1000 - int(LATE_S * 1e6)
                    # A driver without a buffer to write into leaves a frame out.
                    with contextlib.suppress(BlockingIOError):
                        opened.send(struct.pack("<Q", taken_us) + bytes([number % 250]) * PIXELS)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where cameras are plugged in; a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="mc-") as name:
        yield Path(name)


def test_a_camera_of_this_machine_hangs_is_unplugged_and_comes_back(
    tmp_path: Path, folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_project(tmp_path / "project")
    shutil.copytree(bundled_dir() / "nodes/camera", root / "nodes/camera")
    add_node(root, "witness", WITNESS)
    monkeypatch.setenv("CAMERAS", str(folder))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    played, plugged = Played(root), contextlib.ExitStack()

    def said(text: str, count: int = 1) -> None:
        wait_for(lambda: sum(text in line for line in played.lines) >= count, timeout_s=PATIENCE_S, what=text)

    def watch() -> None:
        said("frame 3 of")
        camera.flowing.clear()
        said("stale True: camera 97: no frame for 1.5 s")
        camera.flowing.set()
        said("is back after")
        said("stale False", count=2)
        plugged.close()
        said("stale True: camera 97: no frame comes any more, after ")
        said("[WARNING] camera: camera 97: /dev/video97 is not there")
        plugged.enter_context(VideoDevice(folder, 97))
        said("is back after", count=2)
        said("stale False", count=3)

    with plugged:
        camera = plugged.enter_context(VideoDevice(folder, 97))
        summary = played.go(watch, source="97")

    assert (summary.exit_code, summary.failure) == (0, "")
    assert [stats.restarts for stats in summary.nodes.values()] == [0, 0]
    frames = [re.findall(r"\d+", line.partition("frame ")[2]) for line in played.lines if " witness: frame " in line]
    numbers = [int(number) for number, *_ in frames]
    assert numbers == sorted(set(numbers))
    # The stamp of the driver says that each was taken so long before it could be read.
    assert all(int(age_ms) >= LATE_S * 1e3 for *_, age_ms in frames)


OWN_DEVICES = """
mount -t tmpfs none "$1" && mkdir -p "$1/shm" "$1/v4l/by-path" || exit 77
for device in null zero urandom; do touch "$1/$device" && mount --bind "/dev/$device" "$1/$device" || exit 77; done
mount --rbind "$1" /dev || exit 77
shift
exec "$@"
"""
"""Runs a program with a /dev of its own, where this user may mount one; 77 where not."""


def test_a_camera_that_comes_back_under_another_number_is_taken_and_no_other_one(
    tmp_path: Path, folder: Path, library: Path
) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.getuid() != 0:
        pytest.skip("needs a /dev of its own, and so a root user")
    ran = subprocess.run(
        [unshare, "--mount", "sh", "-c", OWN_DEVICES, "sh", str(tmp_path), sys.executable, "-m", __name__],
        env={**os.environ, "CAMERAS": str(folder), "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    if ran.returncode == 77 or ran.stderr.startswith("unshare: "):
        pytest.skip(f"this user cannot mount here: {ran.stderr}")

    assert ran.returncode == 0, ran.stderr


def replug(folder: Path) -> None:
    """Plug a camera in as video0, out, another one in as video0, and the first one in again as video5."""
    port = Path("/dev/v4l/by-path/platform-usb-0:3:1.0-video-index0")
    port.symlink_to("../../video0")
    feed = Feed("0", open_source, logging.getLogger("camera"))
    with VideoDevice(folder, 0):
        wait_for(lambda: feed.take(0.1), timeout_s=PATIENCE_S)
    port.unlink()
    wait_for(feed.trouble, timeout_s=PATIENCE_S)
    with VideoDevice(folder, 0) as other:
        port.symlink_to("../../video5")
        with VideoDevice(folder, 5) as same:
            frame = wait_for(lambda: feed.take(0.1), timeout_s=PATIENCE_S)
            feed.close()
            assert (other.opened, same.opened) == (0, 1)
    assert frame is not None
    assert frame.source == "camera 0"


if __name__ == "__main__":
    replug(Path(os.environ["CAMERAS"]))
