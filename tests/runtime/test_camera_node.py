"""The camera, as it ships, in a project of its own."""

import logging
import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.runtime.projects import configure
from tests.runtime.shipped_nodes import Running, running_node, shipped_project
from tests.runtime.waiting import wait_for


@pytest.fixture
def root(tmp_path: Path, int8_bytes: bytes) -> Path:
    return shipped_project(tmp_path / "project", int8_bytes)


@pytest.fixture
def running(root: Path, caplog: pytest.LogCaptureFixture) -> Running:
    caplog.set_level(logging.INFO)
    return partial(running_node, root)


def test_a_camera_plays_its_pictures_and_numbers_its_frames(running: Running, root: Path) -> None:
    pictures = root / "pictures"
    pictures.mkdir()
    for index in range(4):
        cv2.imwrite(str(pictures / f"{index}.png"), np.full((24, 32, 3), index, np.uint8))
    configure(root, "camera", source="pictures", real_time=False)
    here = Path.cwd()
    os.chdir(root)
    try:
        with running("camera") as bench:
            bench.thread.join(10)
    finally:
        os.chdir(here)

    assert [(one.seq, int(one.frame_bgr[0, 0, 0])) for one in bench.frames] == [(n, n) for n in range(4)]
    assert [Path(one.source).name for one in bench.frames] == ["0.png", "1.png", "2.png", "3.png"]


def test_frames_that_are_left_out_have_no_number(running: Running, root: Path) -> None:
    configure(root, "camera", source="arena://?size=32x24&frames=10", real_time=False, frame_skip=2)
    with running("camera") as bench:
        bench.thread.join(10)

    assert [one.seq for one in bench.frames] == [0, 1, 2, 3]


def test_a_camera_follows_its_config_and_goes_on_where_that_cannot_be_opened(
    running: Running, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configure(root, "camera", source="arena://?size=32x24&fps=100")
    with running("camera") as bench:
        wait_for(lambda: bench.frames)
        bench.set(source="nothing.mp4")
        wait_for(lambda: any(record.levelname == "WARNING" for record in caplog.records))
        known = len(bench.frames)
        wait_for(lambda: len(bench.frames) > known)
        bench.set(source="arena://?size=48x32&fps=100")
        wait_for(lambda: bench.frames[-1].frame_bgr.shape == (32, 48, 3))

    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("source nothing.mp4: tried it as a file")
    assert warning.endswith("; arena://?size=32x24&fps=100 goes on")
    numbers = [one.seq for one in bench.frames]
    assert numbers == list(range(len(numbers)))
