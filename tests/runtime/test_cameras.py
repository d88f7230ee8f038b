"""The camera node with a camera in the network that hangs, goes away and comes back: real processes, a real stream."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.project import bundled_dir
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.messages import CameraStateMessage, DetectionsMessage, FrameMessage, JsonMessage, Message
from mecha.store.models import ModelStore
from mecha.testing import NodeHarness
from tests.detect.blob_detector import RED, scene
from tests.detect.published_blobs import publish_blobs
from tests.runtime.projects import add_node, configure
from tests.runtime.rtsp_server import RtspCamera, number_of
from tests.runtime.supervision import PATIENCE_S, Played
from tests.runtime.waiting import wait_for

M = TypeVar("M", bound=Message)

PULSE = """
    from mecha import JsonMessage, Node

    class Pulse(Node):
        outputs = {"/pulse": JsonMessage}

        def setup(self) -> None:
            self.count = 0

        def step(self, message: None) -> None:
            self.publish("/pulse", JsonMessage(self.count))
            self.count += 1
            self.wait(0.02)
"""
"""A node that has nothing to do with the camera."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the nodes that ship, the blob detector, and a pulse."""
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    (root / "model_catalog.toml").touch()
    for part in ("nodes", "configs"):
        shutil.copytree(bundled_dir() / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    publish_blobs(ModelStore(root / "models"))
    configure(root, "object-detector", model="blobs", use_int8=False, self_calibrate=False)
    return root


class Heard:
    """What goes over the bus of a project."""

    def __init__(self, root: Path) -> None:
        self.frames: list[FrameMessage] = []
        self.states: list[CameraStateMessage] = []
        self.results: list[DetectionsMessage] = []
        self.pulses: list[int] = []
        place = BusPlace(root, os.environ)
        self.member = place.join(wait_for(place.live_endpoint, timeout_s=PATIENCE_S) or "")
        self._hear("/camera/rgb", FrameMessage, self.frames.append)
        self._hear("/camera/state", CameraStateMessage, self.states.append)
        self._hear("/vision/object/detections", DetectionsMessage, self.results.append)
        self._hear("/pulse", JsonMessage, lambda message: self.pulses.append(message.data))

    def _hear(self, topic: str, kind: type[M], take: Callable[[M], None]) -> None:
        self.member.subscribe(topic, lambda sample: take(kind.decode(sample)))

    def wait_for_results(self, count: int = 3) -> None:
        """Wait for so many more results that are not stale."""
        known = sum(not one.stale for one in self.results)
        wait_for(lambda: sum(not one.stale for one in self.results) >= known + count, timeout_s=PATIENCE_S)

    def wait_until_stale(self) -> None:
        wait_for(lambda: self.results and self.results[-1].stale, timeout_s=PATIENCE_S)

    def spans(self) -> list[tuple[bool, str]]:
        """Return the states of the camera, those that follow each other with the same words as one."""
        said = [(one.stale, one.reason) for one in self.states]
        return [one for index, one in enumerate(said) if index == 0 or said[index - 1] != one]


def red_ball(_number: int) -> NDArray[np.uint8]:
    """A picture of whole JPEG blocks with one thing to find."""
    return scene((16, 16, 16, RED))


def test_a_camera_that_hangs_goes_and_comes_back_is_told_and_holds_nobody_up(root: Path) -> None:
    add_node(root, "pulse", PULSE)
    played, cameras = Played(root), contextlib.ExitStack()
    camera = cameras.enter_context(RtspCamera(password="s3cret-one", picture=red_ball))
    heard: list[Heard] = []

    def watch() -> None:
        one = Heard(root)
        heard.append(one)
        try:
            one.wait_for_results()
            camera.freeze()
            one.wait_until_stale()
            known = len(one.pulses)
            wait_for(lambda: len(one.pulses) > known + 20, timeout_s=PATIENCE_S)
            camera.thaw()
            one.wait_for_results()
            cameras.close()
            one.wait_until_stale()
            known = len(one.pulses)
            wait_for(lambda: len(one.pulses) > known + 20, timeout_s=PATIENCE_S)
            cameras.enter_context(RtspCamera(port=camera.port, password="s3cret-one", picture=red_ball))
            one.wait_for_results()
            played.wait_for_more("stats", node="camera", count=2)
        finally:
            one.member.close()

    with cameras:
        summary = played.go(watch, source=camera.address)

    (one,) = heard
    assert (summary.exit_code, summary.failure) == (0, "")
    assert [stats.restarts for stats in summary.nodes.values()] == [0, 0, 0]
    at = f"rtsp://user:***@127.0.0.1:{camera.port}/live"
    reasons = [reason for _, reason in one.spans()]
    (lost,) = {reason for reason in reasons if "any more" in reason}
    # A machine that has no time for the test's own camera may miss it once more.
    assert reasons[0] == reasons[-1] == ""
    assert set(reasons) == {"", f"{at}: no frame for 1.5 s", lost}
    assert reasons.index(f"{at}: no frame for 1.5 s") < reasons.index(lost)
    assert all(stale == bool(reason) for stale, reason in one.spans())
    assert lost.startswith(f"{at}: no frame comes any more, after ")
    # Others never missed a beat, and no number of a frame came twice.
    assert one.pulses == list(range(one.pulses[0], one.pulses[-1] + 1))
    numbers = [frame.seq for frame in one.frames]
    assert numbers == sorted(set(numbers))
    # Each time the last result comes again, stale; a frame that was on its way then still gets its own.
    spans = [stale for stale, _ in groupby(one.results, lambda result: result.stale)]
    assert spans[:1] == spans[-1:] == [False]
    assert spans.count(True) >= 2
    for before, after in pairwise(one.results):
        assert before.frame < after.frame or (after == replace(before, stale=True) and after.detections)
    for node in ("camera", "object-detector"):
        said = [event["stale"] for event in played.of(node, "stats")]
        assert {True, False} <= set(said), node
        assert said[-1] is False, node
    assert {line for line in played.lines if line.startswith("[ERROR]")} == {
        f"[ERROR] camera: {reason.replace('user:', '')}; what comes from here is stale until it is back"
        for reason in set(reasons) - {""}
    }
    assert sum(" is back after " in line for line in played.lines) == spans.count(True)
    assert not any("s3cret-one" in text for text in (*played.lines, json.dumps(played.events)))


def frames_until(harness: NodeHarness, enough: Callable[[list[FrameMessage]], bool]) -> list[FrameMessage]:
    """Let the camera step until what it published is enough, and return that."""
    frames: list[FrameMessage] = []

    def stepped() -> bool:
        harness.step()
        frames.extend(harness.read("/camera/rgb"))
        return enough(frames)

    wait_for(stepped, timeout_s=PATIENCE_S)
    return frames


def sized(width: int) -> Callable[[list[FrameMessage]], bool]:
    return lambda frames: bool(frames) and frames[-1].frame_bgr.shape[1] == width


def test_a_camera_plays_on_while_another_one_is_opened(root: Path, free_port: Callable[[], int]) -> None:
    with (
        RtspCamera() as here,
        RtspCamera(picture=lambda _: np.zeros((96, 128, 3), np.uint8)) as other,
        NodeHarness(root / "nodes/camera", {"source": here.address}) as camera,
    ):
        frames = frames_until(camera, sized(64))
        nowhere = f"rtsp://127.0.0.1:{free_port()}/live"
        camera.configure({"source": nowhere})
        frames += frames_until(camera, lambda _: any(line.startswith("[WARNING]") for line in camera.lines))
        other.freeze()
        camera.configure({"source": other.address})
        frames += frames_until(camera, lambda more: len(more) > 30)
        assert sized(64)(frames)
        other.thaw()
        frames += frames_until(camera, sized(128))

    assert [frame.seq for frame in frames] == list(range(len(frames)))
    (warning,) = [line for line in camera.lines if line.startswith("[WARNING]")]
    assert warning.startswith(f"[WARNING] camera: {nowhere}: no stream answers (")
    assert warning.endswith(f"; {here.address} goes on")
    sources = [f"[INFO] camera: Source {one.address}, 30 frames per second" for one in (here, other)]
    assert [line for line in camera.lines if "Source" in line] == sources


def test_a_camera_that_is_to_give_another_size_is_given_back_first(root: Path) -> None:
    with RtspCamera() as here, NodeHarness(root / "nodes/camera", {"source": here.address}) as camera:
        frames = frames_until(camera, sized(64))
        camera.configure({"width": 32})
        frames += frames_until(camera, sized(32))

        assert here.played == 2
    assert [frame.seq for frame in frames] == list(range(len(frames)))


def test_frames_of_a_stream_are_told_apart_and_dated_in_order(root: Path) -> None:
    with RtspCamera() as here, NodeHarness(root / "nodes/camera", {"source": here.address}) as camera:
        frames = frames_until(camera, lambda more: len(more) > 20)

    dates = [frame.captured_at for frame in frames]
    assert dates == sorted(dates)
    assert all(0 <= number_of(frame.frame_bgr) < 24 for frame in frames)


def test_a_recording_is_dated_when_it_is_played(root: Path) -> None:
    with NodeHarness(root / "nodes/camera", {"source": "arena://?size=32x24&frames=3", "real_time": False}) as camera:
        # The first frame was rendered ahead.
        camera.node.feed.settled(PATIENCE_S)  # type: ignore[attr-defined]  # a camera has one
        began = time.time_ns()
        frames = frames_until(camera, lambda _: camera.finished)

        (state, *_) = camera.read("/camera/state")
    assert all(frame.captured_at >= began for frame in frames)
    assert [frame.seq for frame in frames] == [0, 1, 2]
    assert (state.stale, state.reason) == (False, "")
