"""`mecha detect` as a user meets it: what goes in, what comes out, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.arena.scene import ArenaCamera
from mecha.detect.images import read_image


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the packaged model, FP32 only."""
    root = tmp_path_factory.mktemp("project")
    (root / "model_catalog.toml").touch()
    home = tmp_path_factory.mktemp("home")
    subprocess.run(
        [sys.executable, "-m", "mecha", "models", "pull", "arena-n", "--no-quantize"],
        cwd=root,
        env={**os.environ, "HOME": str(home), "MECHA_CACHE_DIR": str(home / "cache")},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return root


@pytest.fixture
def project(pulled: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may fill."""
    shutil.copytree(pulled, tmp_path / "project")
    return tmp_path / "project"


def detect(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mecha", "detect", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def video_frames(path: Path) -> tuple[float, list[NDArray[Any]]]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate, frames


def photos(folder: Path, count: int, *, names: str = "{:06d}.png") -> Path:
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / names.format(number + 40)), ArenaCamera(3, 320, 240).scene(number).frame_bgr)
    return folder


def test_one_image_is_annotated_and_told_in_a_line(project: Path) -> None:
    folder = photos(project / "photos", 1)
    done = detect(project, "photos/000040.png", "--out", "found.png")
    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first.startswith("photos/000040.png: ")
    assert first.endswith(" ms, FP32)")
    assert last == "wrote found.png"
    drawn, plain = read_image(project / "found.png"), read_image(folder / "000040.png")
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()


@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv"])
def test_a_video_is_written_at_the_rate_of_the_source_and_read_back(project: Path, ending: str) -> None:
    done = detect(project, "arena://?frames=6&fps=12.5&size=320x240", "--out", f"out/found.{ending}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote out/found.{ending}, 6 frames\n"
    assert done.stderr.splitlines()[0] == "detecting 1 of 6"
    assert done.stderr.splitlines()[-1].startswith("detecting 6 of 6, ")
    rate, frames = video_frames(project / f"out/found.{ending}")
    assert rate == pytest.approx(12.5)
    assert [frame.shape for frame in frames] == [(240, 320, 3)] * 6


def test_a_video_goes_in_and_json_lines_come_out_in_a_file_and_on_a_pipe(project: Path) -> None:
    detect(project, "arena://?frames=4&size=320x240", "--out", "clip.avi")
    done = detect(project, "clip.avi", "--out", "found.jsonl", "--json", "--score", "0.1")
    assert done.returncode == 0, done.stderr
    lines = lines_of(done.stdout)
    assert [line["frame"] for line in lines] == [0, 1, 2, 3]
    assert lines_of((project / "found.jsonl").read_text()) == lines
    assert done.stderr.splitlines()[-1] == "wrote found.jsonl, 4 frames"


def test_every_picture_of_a_folder_is_annotated_in_a_folder(project: Path) -> None:
    photos(project / "photos", 3, names="höhe {}.png")
    done = detect(project, "photos", "--out", "found")
    assert done.stdout == "wrote found, 3 frames\n"
    names = sorted(path.name for path in (project / "found").iterdir())
    assert names == ["000000-höhe_40.jpg", "000001-höhe_41.jpg", "000002-höhe_42.jpg"]


def test_coco_results_are_numbered_by_file_names_that_are_numbers(project: Path) -> None:
    photos(project / "photos", 2)
    done = detect(project, "photos/*.png", "--out", "found.json", "--score", "0.05")
    results = json.loads((project / "found.json").read_text())
    assert {result["image_id"] for result in results} == {40, 41}
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    assert done.stdout == f"wrote found.json, {len(results)} detections on 2 frames\n"


def test_coco_results_are_numbered_by_position_where_names_are_no_numbers(project: Path) -> None:
    photos(project / "photos", 2, names="scene{}.png")
    detect(project, "photos", "--out", "found.json", "--score", "0.05")
    assert {result["image_id"] for result in json.loads((project / "found.json").read_text())} == {1, 2}


def test_nothing_found_is_an_empty_list_of_results(project: Path) -> None:
    cv2.imwrite(str(project / "grey.png"), np.full((50, 50, 3), 114, np.uint8))
    assert detect(project, "grey.png", "--score", "1", "--out", "found.json").returncode == 0
    assert json.loads((project / "found.json").read_text()) == []


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        (
            "arena://",
            "found.png",
            "error: --out found.png: one image cannot take the frames without end of arena://\n"
            "  next: Add --frames 1, or name a folder (found) or a video (found.mp4).\n",
        ),
        ("photos", "found.png", "error: --out found.png: one image cannot take the 2 frames of photos\n"),
        (
            "photos",
            "found.gif",
            "error: --out found.gif: cannot write .gif; expected "
            ".bmp, .jpeg, .jpg, .png, .webp, .avi, .mkv, .mp4, .json, .jsonl, or a folder\n",
        ),
        ("photos", "photos", "error: --out photos: is what the frames are read from\n"),
        (
            "photos/000040.png",
            "photos/000040.png",
            "error: --out photos/000040.png: is what the frames are read from\n  next: Name another file or folder.\n",
        ),
    ],
    ids=["no end", "several", "ending", "own folder", "own file"],
)
def test_what_cannot_be_written_is_said_before_anything_is_done(
    project: Path, source: str, out: str, message: str
) -> None:
    folder = photos(project / "photos", 2)
    before = sorted(project.iterdir()), (folder / "000040.png").read_bytes()
    done = detect(project, source, "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert (sorted(project.iterdir()), (folder / "000040.png").read_bytes()) == before


def test_the_first_frame_of_many_goes_into_an_image_where_that_is_asked(project: Path) -> None:
    assert detect(project, "arena://", "--frames", "1", "--out", "found.png").returncode == 0
    assert read_image(project / "found.png").shape == (480, 640, 3)


def test_a_folder_where_nothing_may_be_written_is_told(project: Path) -> None:
    (project / "file").touch()
    done = detect(project, "arena://?frames=2", "--out", "file/found.mp4")
    assert done.returncode == 7
    assert done.stderr.startswith("error: file: cannot make the folder: ")


def test_pictures_that_cannot_be_read_are_passed_over_counted_and_end_with_6(project: Path) -> None:
    folder = photos(project / "photos", 2)
    (folder / "000001.png").touch()
    (folder / "000041.jpg").write_bytes(b"hello world")
    done = detect(project, "photos", "--out", "found.jsonl")
    assert done.returncode == 6
    assert [line["source"] for line in lines_of((project / "found.jsonl").read_text())] == [
        "photos/000040.png",
        "photos/000041.png",
    ]
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: photos/000001.png: got an empty file; expected an image",
        "warning: photos/000041.jpg: got 11 bytes that cannot be decoded; "
        "expected a whole JPEG, PNG, BMP, WebP or TIFF",
    ]
    assert done.stderr.splitlines()[-1] == ("error: photos: 2 of 4 pictures could not be read; the warnings name them")
    assert done.stdout == "wrote found.jsonl, 2 frames\n"


def exif_turned(jpeg: bytes) -> bytes:
    """Mark a picture as lying on its side: one EXIF entry, orientation 6."""
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    block = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]


def test_pictures_of_any_size_and_kind_give_the_same_objects(project: Path) -> None:
    scene = ArenaCamera(3, 320, 240).scene(0).frame_bgr
    folder = project / "photos"
    folder.mkdir()
    kinds: dict[str, NDArray[Any]] = {
        "bgr.png": scene,
        "alpha.png": cv2.cvtColor(scene, cv2.COLOR_BGR2BGRA),
        "deep.png": scene.astype(np.uint16) * 257,
        "deep.tiff": scene.astype(np.uint16) * 257,
        "photo.bmp": scene,
        "grey.png": cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY),
        "wide.png": scene[:1],
        "tall.png": scene[:, :1],
        "one.png": scene[:1, :1],
        "large.png": cv2.resize(scene, (3840, 2880)),
    }
    for name, image in kinds.items():
        assert cv2.imwrite(str(folder / name), image)
    (folder / "turned.jpg").write_bytes(
        exif_turned(cv2.imencode(".jpg", cv2.rotate(scene, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes())
    )
    done = detect(project, "photos", "--json", "--out", "found")
    assert done.returncode == 0, done.stderr
    found = {Path(line["source"]).name: line for line in lines_of(done.stdout)}
    assert set(found) == {*kinds, "turned.jpg"}
    for name, image in kinds.items():
        height, width = image.shape[:2]
        assert (found[name]["width"], found[name]["height"]) == (width, height)
        for detection in found[name]["detections"]:
            x1, y1, x2, y2 = detection["box"]
            assert 0 <= x1 <= x2 <= width
            assert 0 <= y1 <= y2 <= height
    expected = found["bgr.png"]["detections"]
    assert expected
    for name in ("alpha.png", "deep.png", "deep.tiff", "photo.bmp"):
        assert found[name]["detections"] == expected
    labels = [item["label"] for item in expected]
    assert [item["label"] for item in found["turned.jpg"]["detections"]][: len(labels)] == labels
    assert (found["turned.jpg"]["width"], found["turned.jpg"]["height"]) == (320, 240)
    assert len(list((project / "found").iterdir())) == len(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "error: photo.jpg: got an empty file; expected an image\n"),
        (
            b"\xff\xd8\xff\xe0 not much of a photo",
            "error: photo.jpg: got 24 bytes that cannot be decoded; expected a whole JPEG, PNG, BMP, WebP or TIFF\n",
        ),
    ],
    ids=["empty", "damaged"],
)
def test_one_picture_that_cannot_be_read_is_an_error(project: Path, content: bytes, message: str) -> None:
    (project / "photo.jpg").write_bytes(content)
    done = detect(project, "photo.jpg", "--out", "found.png")
    assert (done.returncode, done.stdout, done.stderr) == (6, "", message)
    assert not (project / "found.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("out", ["found.mp4", "found.avi", "found.jsonl", "found.json", "found"])
def test_an_interrupted_run_leaves_what_it_wrote_readable(project: Path, out: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mecha", "detect", "arena://?size=160x120", "--score", "0.05", "--out", out],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for _ in range(5):
                assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert rest.splitlines()[-1].startswith(f"wrote {out}, ")
    written = project / out
    if out.endswith((".mp4", ".avi")):
        assert len(video_frames(written)[1]) >= 4
    elif out == "found.jsonl":
        assert len(lines_of(written.read_text())) >= 4
    elif out == "found.json":
        assert len({result["image_id"] for result in json.loads(written.read_text())}) >= 1
    else:
        assert all(read_image(file).shape == (120, 160, 3) for file in sorted(written.iterdir())[:4])
    assert not list(project.glob(".found*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminal of this kind")
def test_a_bar_on_the_terminal_leaves_the_json_lines_to_the_pipe(project: Path) -> None:
    import pty

    ours, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "mecha", "detect", "arena://?frames=3&size=160x120", "--json", "--out", "found.mp4"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        out, _ = process.communicate(timeout=60)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert [line["frame"] for line in lines_of(out)] == [0, 1, 2]
    assert "detecting" in shown
    assert "3/3" in shown
    assert "wrote found.mp4, 3 frames" in shown
