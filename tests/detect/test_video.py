import errno
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.video import VIDEO_OUT_SUFFIXES, VideoFile
from mecha.errors import DiskError, UsageError


def plain(width: int, height: int, value: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, dtype=np.uint8)


def read_back(path: Path) -> tuple[float, list[NDArray[Any]]]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate, frames


@pytest.mark.parametrize("suffix", sorted(VIDEO_OUT_SUFFIXES))
def test_a_video_is_read_back_frame_by_frame_at_its_rate(tmp_path: Path, suffix: str) -> None:
    video = VideoFile(tmp_path / f"a{suffix}", fps=12.5)
    for value in range(20, 220, 20):
        video.add(plain(64, 48, value))
    assert not (tmp_path / f"a{suffix}").exists()
    video.close()
    rate, frames = read_back(tmp_path / f"a{suffix}")
    assert rate == pytest.approx(12.5)
    assert [round(float(frame.mean()), -1) for frame in frames] == [float(value) for value in range(20, 220, 20)]
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", sorted(VIDEO_OUT_SUFFIXES))
@pytest.mark.parametrize(("width", "height"), [(1, 1), (63, 47), (7, 301)])
def test_no_size_is_too_odd(tmp_path: Path, suffix: str, width: int, height: int) -> None:
    video = VideoFile(tmp_path / f"a{suffix}", fps=30)
    video.add(plain(width, height, 200))
    video.close()
    _, (frame,) = read_back(tmp_path / f"a{suffix}")
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    assert frame[:height, :width].mean() == pytest.approx(200, abs=12)


@pytest.mark.parametrize("other", [(100, 20), (20, 100), (400, 400), (10, 10)])
def test_frames_of_another_size_are_scaled_into_that_of_the_first(tmp_path: Path, other: tuple[int, int]) -> None:
    video = VideoFile(tmp_path / "a.avi", fps=30)
    video.add(plain(64, 64, 0))
    video.add(plain(*other, 255))
    video.close()
    _, (_, frame) = read_back(tmp_path / "a.avi")
    assert frame.shape == (64, 64, 3)
    proportion = min(other) / max(other)
    assert frame.mean() / 255 == pytest.approx(proportion, abs=0.06)
    assert frame[31, 31].min() > 240


def test_what_was_there_stays_until_the_video_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("before")
    video = VideoFile(tmp_path / "a.mp4", fps=30)
    video.close()
    assert (tmp_path / "a.mp4").read_text() == "before"
    video.add(plain(8, 8, 1))
    assert (tmp_path / "a.mp4").read_text() == "before"
    video.close()
    video.close()
    assert len(read_back(tmp_path / "a.mp4")[1]) == 1


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        VideoFile(tmp_path / "a.gif", fps=30)
    assert str(caught.value) == f'{tmp_path / "a.gif"}: got suffix ".gif"; expected one of .avi, .mkv, .mp4'


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    video = VideoFile(tmp_path / "nowhere" / "a.mp4", fps=30)
    with pytest.raises(DiskError) as caught:
        video.add(plain(8, 6, 1))
    assert str(caught.value) == f"{tmp_path / 'nowhere' / 'a.mp4'}: cannot write: no such file or directory"
    video.close()
    assert capfd.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    video = VideoFile(tmp_path / "a.mp4", fps=30)
    with pytest.raises(DiskError) as caught:
        video.add(plain(8, 6, 1))
    assert str(caught.value) == f"{tmp_path / 'a.mp4'}: cannot write: permission denied"
    assert caught.value.hint == f"Make {tmp_path} writable for this user, or work in another folder."
    video.close()
    assert list(tmp_path.iterdir()) == []


def test_what_no_codec_takes_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def __init__(self, *_: Any) -> None: ...

        def isOpened(self) -> bool:  # noqa: N802 - as OpenCV names it
            return False

    monkeypatch.setattr(cv2, "VideoWriter", type("Writer", (Closed,), {"fourcc": staticmethod(lambda *_: 0)}))
    video = VideoFile(tmp_path / "a.mp4", fps=30)
    with pytest.raises(DiskError) as caught:
        video.add(plain(8, 6, 1))
    assert str(caught.value) == f"{tmp_path / 'a.mp4'}: cannot write a video of 8x6 pixels at 30 frames a second"
    assert caught.value.hint == "Take another ending (.avi, .mkv), or smaller frames."
    video.close()
    assert list(tmp_path.iterdir()) == []
