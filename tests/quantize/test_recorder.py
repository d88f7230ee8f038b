"""Frames that a camera saw, kept in a folder."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.detect.images import read_image
from mecha.errors import DiskError
from mecha.quantize.photos import photo_frames
from mecha.quantize.recorder import FrameRecorder


def picture(number: int) -> NDArray[np.uint8]:
    """Patches that differ from those of any other number."""
    patches = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return patches.repeat(20, axis=0).repeat(20, axis=1)


def recorded(folder: Path, numbers: range, **options: int) -> FrameRecorder:
    recorder = FrameRecorder(folder, **options)
    for number in numbers:
        recorder.offer(picture(number), at_s=float(number))
    return recorder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_is_empty_and_takes_the_first_frame(tmp_path: Path) -> None:
    recorder = FrameRecorder(tmp_path / "a" / "frames", limit=2)
    assert (recorder.count, recorder.full, recorder.files) == (0, False, ())
    assert recorder.offer(picture(0))
    assert (recorder.count, recorder.full) == (1, False)
    assert recorder.files == (tmp_path / "a" / "frames" / "frame-000.jpg",)
    assert np.abs(read_image(recorder.files[0]).astype(int) - picture(0)).mean() < 8


def test_frames_of_a_still_camera_are_kept_once(tmp_path: Path) -> None:
    recorder = FrameRecorder(tmp_path, limit=8)
    still = cv2.resize(picture(0), (640, 480), interpolation=cv2.INTER_LINEAR)
    for number in range(6):
        noise = np.random.default_rng(number).normal(0, 10, still.shape)
        frame = np.clip(still + noise, 0, 255).astype(np.uint8)
        assert recorder.offer(frame, at_s=float(number)) == (number == 0)
    assert recorder.offer(picture(1), at_s=20.0)
    assert recorder.count == 2


def test_an_object_of_a_fiftieth_of_the_frame_makes_it_another_one(tmp_path: Path) -> None:
    recorder = FrameRecorder(tmp_path)
    empty = np.full((480, 640, 3), 90, dtype=np.uint8)
    entered = empty.copy()
    entered[200:280, 300:377] = 190
    assert recorder.offer(empty, at_s=0.0)
    assert recorder.offer(entered, at_s=1.0)


def test_frames_close_in_time_are_not_looked_at(tmp_path: Path) -> None:
    recorder = FrameRecorder(tmp_path, interval_s=0.5)
    kept = [recorder.offer(picture(number), at_s=number * 0.2) for number in range(8)]
    assert kept == [True, False, False, True, False, False, True, False]


def test_a_full_folder_keeps_frames_of_all_the_time(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(400), limit=20)
    assert (recorder.count, recorder.full) == (20, True)
    assert names(tmp_path) == [f"frame-{slot:03}.jpg" for slot in range(20)]
    means = [picture(number).mean((0, 1)) for number in range(400)]
    kept = [read_image(file).mean((0, 1)) for file in recorder.files]
    seen = [int(np.argmin([np.abs(one - mean).sum() for mean in means])) for one in kept]
    quarters = [sum(1 for number in seen if number // 100 == quarter) for quarter in range(4)]
    assert min(quarters) >= 1
    assert sum(quarters) == 20


def test_the_bytes_are_bounded_as_well(tmp_path: Path) -> None:
    one = recorded(tmp_path / "one", range(1)).files[0].stat().st_size
    recorder = recorded(tmp_path / "many", range(60), limit=64, limit_bytes=one * 10)
    assert 5 <= recorder.count < 64
    assert recorder.full
    assert sum(file.stat().st_size for file in recorder.files) <= one * 10


def test_a_frame_larger_than_all_that_may_be_kept_is_not_kept(tmp_path: Path) -> None:
    recorder = FrameRecorder(tmp_path, limit_bytes=100)
    assert not recorder.offer(picture(0))
    assert (recorder.count, recorder.full, names(tmp_path)) == (0, False, [])


def test_what_an_earlier_recorder_kept_counts(tmp_path: Path) -> None:
    recorded(tmp_path, range(3), limit=4)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "frame-001.jpg").write_bytes(b"cut off")
    recorder = FrameRecorder(tmp_path, limit=4)
    assert recorder.count == 2
    assert not recorder.offer(picture(0), at_s=0.0)
    assert recorder.offer(picture(5), at_s=1.0)
    assert names(tmp_path) == ["frame-000.jpg", "frame-001.jpg", "frame-002.jpg", "notes.txt"]


def test_a_lower_limit_removes_what_is_too_much(tmp_path: Path) -> None:
    recorded(tmp_path, range(6), limit=6)
    assert FrameRecorder(tmp_path, limit=4).count == 4
    assert len(names(tmp_path)) == 4


def test_what_a_process_that_is_gone_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".frame-000.jpg.999999-1-0.tmp").write_bytes(b"half")
    FrameRecorder(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError) as refusal:
        FrameRecorder(tmp_path / "file" / "frames")
    assert str(refusal.value).startswith(f"{tmp_path / 'file' / 'frames'}: cannot make the folder")


def test_the_folder_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(8), limit=8)
    done = threading.Event()

    def record() -> None:
        number = 8
        while not done.is_set():
            recorder.offer(picture(number), at_s=float(number))
            number += 1

    writer = threading.Thread(target=record)
    writer.start()
    try:
        for _ in range(30):
            frames = photo_frames([tmp_path], 8)
            assert frames.skipped == 0
            assert len(list(frames)) == 8
    finally:
        done.set()
        writer.join()


def test_a_killed_recorder_leaves_whole_frames_only(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.quantize.test_recorder import picture\n"
        "from mecha.quantize.recorder import FrameRecorder\n"
        "recorder = FrameRecorder(Path(sys.argv[1]), limit=8)\n"
        "number = 0\n"
        "while True:\n"
        "    recorder.offer(picture(number), at_s=float(number)); number += 1\n"
        "    if number == 12: print('going', flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, env=dict(os.environ)
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"going\n"
        child.kill()
    assert FrameRecorder(tmp_path, limit=8).count == 8
    assert all(cv2.imread(str(tmp_path / name)) is not None for name in names(tmp_path))
    assert len(names(tmp_path)) == 8
