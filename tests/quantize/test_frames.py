from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from mecha.errors import IntegrityError, NotFoundError, QuantizationError
from mecha.quantize.frames import (
    FrameSet,
    PhotoFrames,
    built_in_scenes,
    frames_at,
    photo_frames,
    split_frames,
)
from mecha.quantize.video import VideoFrames, video_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_photos(folder: Path, count: int, suffix: str = ".png") -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        path = folder / f"photo{number:02}{suffix}"
        cv2.imwrite(str(path), image)
        paths.append(path)
    return paths


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))  # type: ignore[attr-defined]
    for number in range(count):
        writer.write(np.full((48, 64, 3), number * 10 % 256, dtype=np.uint8))
    writer.release()
    return path


def same(one: FrameSet, other: FrameSet) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_built_in_scenes_are_always_the_same_and_say_that_they_are_provisional() -> None:
    scenes = built_in_scenes(3, seed=1, size=(64, 96))
    assert [frame.shape for frame in scenes] == [(64, 96, 3)] * 3
    assert same(scenes, built_in_scenes(3, seed=1, size=(64, 96)))
    assert (scenes.description, scenes.provisional, len(scenes)) == ("3 built-in scenes", True, 3)
    digests = {
        built_in_scenes(count, seed=seed, size=size).digest
        for count, seed, size in ((3, 1, (64, 96)), (4, 1, (64, 96)), (3, 2, (64, 96)), (3, 1, (96, 64)))
    }
    assert len(digests) == 4


def test_scenes_are_rendered_once_where_there_is_room_and_stay_the_same_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mecha.quantize.frames._KEPT_BYTES", 2 * 64 * 96 * 3)
    scenes = built_in_scenes(3, seed=1, size=(64, 96))
    first, second = list(scenes), list(scenes)
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, True, False]
    assert np.array_equal(first, second)
    with pytest.raises(ValueError, match="read-only"):
        first[0][:] = 0
    _, gate = split_frames(scenes, gate=2)
    assert np.array_equal(list(gate), list(built_in_scenes(5, seed=1, size=(64, 96)))[3:])


def test_the_gate_sees_other_scenes() -> None:
    calibration, gate = split_frames(built_in_scenes(2, seed=1, size=(64, 64)), gate=2)
    assert len(gate) == 2
    assert not any(np.array_equal(a, b) for a in calibration for b in gate)


def test_photos_are_taken_whole_and_the_gate_gets_others(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 24)
    frames = photo_frames([tmp_path / "photos"], 8)
    assert (frames.description, frames.provisional, len(frames)) == ("8 photos", False, 8)
    calibration, gate = split_frames(frames)
    assert (calibration.description, gate.description) == ("8 photos", "16 photos")
    assert isinstance(calibration, PhotoFrames)
    assert isinstance(gate, PhotoFrames)
    assert not set(list(calibration.photos)[:8]) & set(gate.photos)
    assert {frame.shape for frame in calibration} == {(40, 60, 3)}


def test_few_photos_are_cropped_up_to_the_number_asked_for(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 4)
    frames = photo_frames(paths, 10)
    assert frames.description == "4 photos, 6 crops of them"
    seen = list(frames)
    assert [frame.shape for frame in seen[:4]] == [(40, 60, 3)] * 4
    assert all(frame.shape[0] >= 16 and frame.shape[1] >= 24 for frame in seen[4:])
    assert same(frames, photo_frames(paths[::-1], 10))
    calibration, gate = split_frames(frames, gate=6)
    assert gate.description == "6 crops of 4 photos"
    assert not any(np.array_equal(a, b) for a in calibration for b in gate)
    assert calibration.digest != gate.digest


@pytest.mark.parametrize(("count", "held"), [(8, 2), (20, 5), (40, 16)])
def test_where_photos_are_enough_some_are_kept_for_the_gate(tmp_path: Path, count: int, held: int) -> None:
    write_photos(tmp_path / "photos", count)
    calibration, gate = split_frames(photo_frames([tmp_path / "photos"], 16 if count == 40 else 32))
    assert isinstance(calibration, PhotoFrames)
    assert isinstance(gate, PhotoFrames)
    assert len(gate.photos) == held
    assert not set(calibration.photos) & set(gate.photos)
    assert len(gate) == 16


@pytest.mark.parametrize(("count", "samples", "gate"), [(63, 32, 16), (64, 32, 32), (64, 64, 32), (100, 32, 32)])
def test_the_gate_sees_more_where_there_is_plenty(tmp_path: Path, count: int, samples: int, gate: int) -> None:
    write_photos(tmp_path / "photos", count)
    used, others = split_frames(photo_frames([tmp_path / "photos"], samples))
    assert isinstance(used, PhotoFrames)
    assert isinstance(others, PhotoFrames)
    assert (len(others), len(others.photos)) == (gate, 16 if samples == 64 or count == 63 else 32)
    assert not set(used.photos) & set(others.photos)
    assert len(used) == samples


def test_hidden_files_are_no_photos(tmp_path: Path) -> None:
    write_photos(tmp_path, 1)
    (tmp_path / "._photo00.png").write_bytes(b"resource fork")
    assert photo_frames([tmp_path], 1).description == "1 photo"


def test_photos_of_any_channels_and_depth_become_bgr_bytes(tmp_path: Path) -> None:
    """Grey, colour with alpha, 16 bits; decoded as the detector decodes them."""
    rng = np.random.default_rng(0)
    pictures: dict[str, NDArray[Any]] = {
        "grey.png": rng.integers(0, 256, (20, 30), dtype=np.uint8),
        "alpha.png": rng.integers(0, 256, (20, 30, 4), dtype=np.uint8),
        "deep.png": rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16),
        "deep-grey.tiff": rng.integers(0, 65536, (20, 30), dtype=np.uint16),
        "deep-alpha.png": rng.integers(0, 65536, (20, 30, 4), dtype=np.uint16),
    }
    for name, picture in pictures.items():
        assert cv2.imwrite(str(tmp_path / name), picture)
    frames = photo_frames([tmp_path], 5)
    assert frames.description == "5 photos"
    assert {(frame.shape, frame.dtype) for frame in frames} == {((20, 30, 3), np.dtype(np.uint8))}


def test_the_digest_is_of_contents_not_of_names(tmp_path: Path) -> None:
    first = write_photos(tmp_path / "one", 1)[0]
    (tmp_path / "two").mkdir()
    copy = tmp_path / "two" / "other.png"
    copy.write_bytes(first.read_bytes())
    assert photo_frames([first], 4).digest == photo_frames([copy], 4).digest
    copy.write_bytes(write_photos(tmp_path / "three", 2)[1].read_bytes())
    assert photo_frames([first], 4).digest != photo_frames([copy], 4).digest


def test_unreadable_photos_are_skipped_and_counted(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (tmp_path / "photos" / "notes.txt").write_text("not looked at")
    frames = photo_frames([tmp_path / "photos"], 3)
    assert frames.description == "3 photos, 1 unreadable one skipped"
    assert len(list(frames)) == 3


def test_more_unreadable_photos_than_others_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 1)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"<html>")
    with pytest.raises(QuantizationError) as refusal:
        photo_frames([folder], 8)
    assert str(refusal.value) in {
        f"{folder}: got 2 of 3 photos that cannot be decoded, {name} the first; expected at most half"
        for name in ("a.jpg", "b.jpg")
    }


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError) as refusal:
        photo_frames([tmp_path], 8)
    assert str(refusal.value) == f"{tmp_path}: got no photo; expected at least one"
    assert refusal.value.hint == "Photos end in .bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp."


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as refusal:
        photo_frames([tmp_path / "none"], 8)
    assert str(refusal.value) == f"{tmp_path / 'none'}: no such file or folder; expected photos to calibrate on"


def test_frames_of_a_video_are_spread_and_the_gate_gets_others(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.avi", 20)
    frames = frames_at(path, 4)
    assert isinstance(frames, VideoFrames)
    assert (frames.indices, frames.description, frames.provisional) == ((2, 7, 12, 17), "4 frames of drive.avi", False)
    shades = [int(frame.mean()) for frame in frames]
    assert shades == pytest.approx([20, 70, 120, 170], abs=4)
    calibration, gate = split_frames(frames, gate=8)
    assert isinstance(gate, VideoFrames)
    assert len(list(gate)) == 8
    assert not set(frames.indices) & set(gate.indices)
    assert calibration.digest != gate.digest


@pytest.mark.parametrize(("length", "held"), [(8, 2), (40, 10), (47, 15), (70, 32)])
def test_a_video_shorter_than_what_is_asked_for_is_shared_with_the_gate(tmp_path: Path, length: int, held: int) -> None:
    calibration, gate = split_frames(video_frames(write_video(tmp_path / "short.avi", length), 32))
    assert isinstance(calibration, VideoFrames)
    assert isinstance(gate, VideoFrames)
    assert (len(calibration), len(gate)) == (min(32, length - held), held)
    assert not set(calibration.indices) & set(gate.indices)
    assert len(list(gate)) == held


def test_a_video_of_a_moment_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.avi", 3)
    with pytest.raises(QuantizationError) as refusal:
        split_frames(video_frames(path, 32))
    assert str(refusal.value) == (
        f"{path}: got a video of 3 frames; expected 8 or more, some to calibrate on and others to measure on"
    )
    assert refusal.value.hint == "Name a longer video, or photos."


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(IntegrityError) as refusal:
        video_frames(path, 4)
    assert str(refusal.value) == f"{path}: got a file without a frame that can be decoded; expected a video"
    with pytest.raises(NotFoundError):
        video_frames(tmp_path / "none.mp4", 4)
