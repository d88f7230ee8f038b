"""Frames gathered from a camera, a video or a folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mecha.errors import NodeError, QuantizationError
from mecha.quantize.frames import frames_at
from mecha.quantize.gathering import Live, TimedFrame, gather, whole_frames_at
from tests.quantize.test_frames import write_photos, write_video
from tests.quantize.test_recorder import picture


def seen(*numbers: int, every_s: float = 1.0) -> Iterator[TimedFrame]:
    for position, number in enumerate(numbers):
        yield picture(number), position * every_s


def test_a_camera_gives_frames_that_differ_spread_over_time(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    frames = seen(*(number // 2 for number in range(400)), every_s=0.1)
    count = gather(Live("camera 0", frames), tmp_path / "f", 10, lambda *step: told.append(step))
    assert count == len(list((tmp_path / "f").iterdir())) == 10
    assert told[0] == ("gather", 0, 10)
    assert told[-1] == ("gather", 10, 10)
    # Of ten frames a second two are looked at.
    assert next(frames)[1] == pytest.approx(4.6)


def test_a_camera_that_shows_nothing_new_any_more_ends_with_what_it_showed(tmp_path: Path) -> None:
    still = Live("camera 0", seen(*range(9), *[9] * 1000))
    assert gather(still, tmp_path / "f", 64) == 10


def test_a_camera_that_shows_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError) as refusal:
        gather(Live("camera 0", seen(1, 2, *[3] * 1000)), tmp_path / "f", 64)
    assert str(refusal.value) == (
        "camera 0: got 3 frames that differ, in what it showed until nothing new came for 30 s; expected 8 or more"
    )
    assert refusal.value.hint == "Move the camera, or what it looks at, while frames are gathered."
    assert gather(Live("camera 0", seen(1, 2, *[3] * 1000)), tmp_path / "g", 2) == 2


def test_a_camera_that_is_lost_is_said(tmp_path: Path) -> None:
    def lost() -> Iterator[TimedFrame]:
        yield from seen(*range(5))
        raise NodeError("camera 0: no frame comes any more, after 5")

    with pytest.raises(NodeError, match="no frame comes any more"):
        gather(Live("camera 0", lost()), tmp_path / "f", 64)


def test_a_video_gives_frames_of_all_of_it(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.avi", 24)
    assert gather(frames_at(video, 8), tmp_path / "f", 8) == 8


def test_few_photos_are_gathered_whole_and_not_as_crops(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    frames = whole_frames_at((tmp_path / "photos",), 64)
    assert len(frames) == gather(frames, tmp_path / "f", 64) == 5
    assert {frame.shape for frame in frames} == {(40, 60, 3)}


def test_of_many_photos_no_more_are_gathered_than_asked_for(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 12)
    assert gather(whole_frames_at(tuple(paths), 6), tmp_path / "f", 6) == 6
    assert np.asarray(next(iter(whole_frames_at((tmp_path / "photos",), 6)))).shape == (40, 60, 3)
