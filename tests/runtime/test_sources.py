"""Sources of frames."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.arena.camera import ArenaCamera
from mecha.errors import ConfigError, IntegrityError, MechaError, NetworkError, NotFoundError
from mecha.runtime.sources import CapturedFrame, FrameSize, open_source
from mecha.runtime.sources.capture import without_password
from mecha.runtime.sources.pace import Pace, Thinning


def picture(folder: Path, name: str, grey: int, size: tuple[int, int] = (32, 24)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    cv2.imwrite(str(file), np.full((size[1], size[0], 3), grey, np.uint8))
    return file


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames, each brighter than the one before."""
    file = tmp_path / "ten.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for index in range(10):
        writer.write(np.full((48, 64, 3), 20 * index, np.uint8))
    writer.release()
    return file


def test_a_picture_is_one_frame(tmp_path: Path) -> None:
    file = picture(tmp_path, "a.png", 7)

    with open_source(str(file)) as source:
        frames = list(source)

    assert [(frame.sequence, frame.source) for frame in frames] == [(0, str(file))]
    assert frames[0].frame_bgr.shape == (24, 32, 3)
    assert (frames[0].frame_bgr == 7).all()
    assert frames[0].captured_at > 1_700_000_000 * 10**9
    assert not source.live


def test_a_folder_gives_its_pictures_by_name_and_may_begin_again(tmp_path: Path) -> None:
    for grey, name in enumerate(("c.png", "a.png", "b.bmp")):
        picture(tmp_path, name, grey)
    (tmp_path / "notes.txt").write_text("no picture")

    with open_source(str(tmp_path)) as source:
        assert [Path(frame.source).name for frame in source] == ["a.png", "b.bmp", "c.png"]
    with open_source(str(tmp_path), loop=True) as source:
        frames = [source.read() for _ in range(7)]
    assert [Path(frame.source).name[0] for frame in frames if frame] == list("abcabca")
    assert [frame.sequence for frame in frames if frame] == list(range(7))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_picture_whose_name_is_not_utf8_is_told_by_a_name_that_is(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"k\xfche")
    folder.mkdir()
    # OpenCV itself cannot write such a name.
    picture(tmp_path, "a.png", 7).rename(folder / os.fsdecode(b"foto\xe4.png"))

    with open_source(str(folder)) as source:
        frames = list(source)
    (folder / os.fsdecode(b"foto\xe4.png")).write_bytes(b"x")
    with open_source(str(folder)) as source, pytest.raises(IntegrityError) as torn:
        source.read()

    assert source.name == f"{tmp_path}/k\\udcfche"
    assert [frame.source for frame in frames] == [f"{tmp_path}/k\\udcfche/foto\\udce4.png"]
    assert str(torn.value) == (
        f"{tmp_path}/k\\udcfche/foto\\udce4.png: got 1 bytes that cannot be decoded; "
        "expected a whole JPEG, PNG, BMP, WebP or TIFF"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_video_whose_name_is_not_utf8_is_refused_before_opencv_ends_the_process(video: Path) -> None:
    named = video.rename(video.with_name(os.fsdecode(b"v\xe4.avi")))

    with pytest.raises(ConfigError) as refused:
        open_source(str(named))

    assert str(refused.value) == (
        f"source {video.parent}/v\\udce4.avi: got a video whose name is not UTF-8; expected one that is"
    )


def test_a_pattern_gives_the_pictures_that_match(tmp_path: Path) -> None:
    for name in ("cat-1.png", "cat-2.png", "dog-1.png"):
        picture(tmp_path / "deep", name, 0)

    with open_source(f"{tmp_path}/**/cat-*") as source:
        assert [Path(frame.source).name for frame in source] == ["cat-1.png", "cat-2.png"]


def test_a_video_gives_every_frame_and_says_how_fast_it_plays(video: Path) -> None:
    with open_source(str(video)) as source:
        frames = list(source)
        assert source.read() is None

    assert source.fps == 25.0
    assert [frame.sequence for frame in frames] == list(range(10))
    assert [round(float(frame.frame_bgr.mean()) / 20) for frame in frames] == list(range(10))


def test_a_video_may_begin_again(video: Path) -> None:
    with open_source(str(video), loop=True) as source:
        frames = [source.read() for _ in range(25)]

    assert [round(float(frame.frame_bgr.mean()) / 20) for frame in frames if frame] == [n % 10 for n in range(25)]
    assert [frame.sequence for frame in frames if frame] == list(range(25))


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (FrameSize(), (48, 64)),
        (FrameSize(width=32), (24, 32)),
        (FrameSize(height=96), (96, 128)),
        (FrameSize(width=10, height=20), (20, 10)),
    ],
)
def test_frames_are_brought_to_the_size_that_is_wanted(video: Path, size: FrameSize, shape: tuple[int, int]) -> None:
    with open_source(str(video), size=size) as source:
        frame = source.read()

    assert frame is not None
    assert frame.frame_bgr.shape[:2] == shape


def test_the_arena_renders_the_drive_in_its_own_time() -> None:
    with open_source("arena://?seed=3&size=64x48&fps=10&frames=3") as source:
        frames = list(source)

    camera = ArenaCamera(3, 64, 48)
    assert source.fps == 10.0
    for frame, index in zip(frames, (0, 3, 6), strict=True):
        assert np.array_equal(frame.frame_bgr, camera.scene(index).frame_bgr)


def test_the_arena_needs_no_option_and_takes_the_wanted_size() -> None:
    with open_source("arena://", size=FrameSize(width=80)) as source:
        frame = source.read()

    assert frame is not None
    assert frame.frame_bgr.shape == (60, 80, 3)
    assert frame.source == "arena://"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("arena://?sede=3", 'arena://?sede=3: sede: unknown key; did you mean "seed"?'),
        ("arena://?seed=x", 'arena://?seed=x: seed: got "x"; expected a whole number'),
        ("arena://?size=big", 'arena://?size=big: size: got "big"; expected width x height in pixels, as in 640x480'),
        ("arena://?fps=0", "arena://?fps=0: fps: got 0; expected more than 0"),
    ],
)
def test_an_option_of_the_arena_that_is_none_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(text)

    assert str(caught.value) == sentence


def test_what_is_nothing_tells_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(NotFoundError) as caught:
        open_source("nothing.mp4")

    assert str(caught.value) == (
        f"source nothing.mp4: tried it as a file, folder or pattern ({tmp_path}/nothing.mp4 is not there), as the "
        "number of a camera (it is none) and as an address (it begins with no rtsp:// and no arena://)"
    )
    assert caught.value.hint == "Give a camera number, a picture, a folder, a video, rtsp://HOST/PATH or arena://."


def test_a_camera_that_is_not_there_tells_which_are(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotFoundError) as caught:
        open_source("97")

    assert str(caught.value).startswith("camera 97: /dev/video97 is not there; this machine has ")
    assert capfd.readouterr() == ("", "")


def test_an_empty_folder_and_a_pattern_without_match_are_told(tmp_path: Path) -> None:
    hint = "Pictures end in .bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp."
    for text, what in ((str(tmp_path), "the folder holds no picture"), (f"{tmp_path}/*.png", "no picture matches")):
        with pytest.raises(NotFoundError) as caught:
            open_source(text)
        assert str(caught.value).startswith(f"source {text}: {what}")
        assert caught.value.hint == hint


@pytest.mark.parametrize("name", ["broken.mp4", "broken.jpg"])
@pytest.mark.parametrize("content", [b"", b"this is neither"])
def test_a_file_without_a_picture_in_it_is_told(
    tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    with pytest.raises(IntegrityError) as caught, open_source(str(file)) as source:
        source.read()

    assert str(caught.value).startswith(f"{file}: got ")


@contextmanager
def silent_server() -> Iterator[int]:
    """A server that takes a connection and says nothing for it, then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(1024)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


def test_a_stream_that_does_not_answer_is_told_without_its_password(capfd: pytest.CaptureFixture[str]) -> None:
    with silent_server() as port, pytest.raises(NetworkError) as caught:
        open_source(f"rtsp://user:secret@127.0.0.1:{port}/live")

    assert str(caught.value).startswith(f"rtsp://user:***@127.0.0.1:{port}/live: no stream answers (")


def test_a_stream_is_read_until_it_ends_and_its_end_is_an_error(video: Path) -> None:
    """Any stream that FFmpeg reads will do: this one is a video over HTTP."""
    import functools
    import http.server

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(video.parent))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]  # a partial takes attributes
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with open_source(f"http://127.0.0.1:{server.server_port}/{video.name}") as source:
                assert source.live
                frames: list[CapturedFrame] = []
                with pytest.raises(NetworkError) as caught:
                    frames.extend(source)
        finally:
            server.shutdown()
            thread.join()

    assert str(caught.value).endswith("ten.avi: no frame comes any more, after 10")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@host:554/a", "rtsp://user:***@host:554/a"),
        ("rtsp://user@host/a", "rtsp://user@host/a"),
        ("rtsp://host/a?b=c:d@e", "rtsp://host/a?b=c:d@e"),
        ("rtsp://:secret@host/a", "rtsp://:***@host/a"),
    ],
)
def test_a_password_is_never_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.shared_data
def test_a_real_video_and_a_real_photo_are_read(shared_data: Path) -> None:
    with open_source(str(shared_data / "video/traffic.mp4")) as source:
        frame = source.read()
        assert frame is not None
        assert frame.frame_bgr.shape == (1080, 1920, 3)
        assert source.fps == pytest.approx(30, abs=0.1)
    with open_source(str(shared_data / "images")) as source:
        assert sorted(Path(one.source).name for one in source) == ["bus.jpg", "zidane.jpg"]


# Pace


def test_frames_go_out_in_real_time_and_small_delays_are_made_up_for() -> None:
    pace = Pace(10.0)

    waits = [pace.wait_s(now) for now in (0.0, 0.02, 0.25, 0.3)]

    assert waits == pytest.approx([0.0, 0.08, 0.0, 0.0])
    assert pace.wait_s(0.31) == pytest.approx(0.09)


def test_a_long_delay_is_not_made_up_for() -> None:
    pace = Pace(10.0)
    pace.wait_s(0.0)

    assert pace.wait_s(5.0) == 0.0
    assert pace.wait_s(5.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("thinning", "kept"),
    [
        (Thinning(), "1111111111"),
        (Thinning(skip=2), "1001001001"),
        (Thinning(max_fps=15, fps=30), "1010101010"),
        (Thinning(max_fps=20, fps=30), "1011011011"),
        (Thinning(max_fps=60, fps=30), "1111111111"),
        (Thinning(skip=1, max_fps=10, fps=30), "1000101000"),
    ],
)
def test_frames_are_left_out_the_same_way_every_time(thinning: Thinning, kept: str) -> None:
    assert "".join("1" if thinning.keep(0.0) else "0" for _ in kept) == kept


def test_frames_of_an_unknown_rate_are_left_out_by_the_clock() -> None:
    thinning = Thinning(max_fps=10)

    assert [thinning.keep(now) for now in (0.0, 0.05, 0.095, 0.1, 0.2)] == [True, False, True, False, True]


@pytest.mark.parametrize(("max_fps", "kept"), [(30, 300), (20, 200), (15, 150), (7, 70), (40, 300)])
def test_a_camera_that_gives_30_frames_gives_as_many_as_are_wanted(max_fps: float, kept: int) -> None:
    thinning = Thinning(max_fps=max_fps)
    # A camera is early or late by some milliseconds.
    moments = [100 + index / 30 + (index * 7 % 5 - 2) / 1000 for index in range(300)]

    assert sum(thinning.keep(moment) for moment in moments) == pytest.approx(kept, abs=2)


@given(st.floats(1, 120), st.floats(1, 120), st.integers(50, 400))
def test_the_wanted_rate_is_kept_within_one_frame(fps: float, max_fps: float, frames: int) -> None:
    thinning = Thinning(max_fps=max_fps, fps=fps)

    kept = sum(thinning.keep(0.0) for _ in range(frames))

    assert abs(kept - frames * min(1.0, max_fps / fps)) <= 1.0 + 1e-6


def test_an_error_of_a_source_is_one_of_ours() -> None:
    for text in ("", ".", os.devnull):
        with pytest.raises(MechaError), open_source(text) as source:
            list(source)


def test_a_picture_that_cannot_be_read_is_passed_over_by_the_next_call(tmp_path: Path) -> None:
    picture(tmp_path, "a.png", 1)
    (tmp_path / "b.png").write_bytes(b"no picture")
    picture(tmp_path, "c.png", 3)

    with open_source(str(tmp_path)) as source:
        assert source.read() is not None
        with pytest.raises(IntegrityError):
            source.read()
        rest = list(source)

    assert [(frame.sequence, Path(frame.source).name) for frame in rest] == [(1, "c.png")]


def test_a_source_says_how_many_frames_it_gives_where_it_knows(tmp_path: Path, video: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "folder", name, 1)
    known = {"arena://": None, "arena://?frames=7": 7, str(tmp_path / "folder"): 2, str(video): 10}
    for text, count in known.items():
        with open_source(text) as source:
            assert source.count == count
    for text in (str(tmp_path / "folder"), str(video)):
        with open_source(text, loop=True) as source:
            assert source.count is None
