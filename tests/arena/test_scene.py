import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mecha.arena.labels import BALL
from mecha.arena.optics import View
from mecha.arena.painter import Light, Painter
from mecha.arena.scene import CLASS_NAMES, ArenaCamera, Scene, calibration_scene, training_scene


def assert_truth_is_sound(scene: Scene, width: int, height: int) -> None:
    assert scene.frame_bgr.shape == (height, width, 3)
    assert scene.frame_bgr.dtype == np.uint8
    assert scene.boxes_xyxy.dtype == np.float32
    assert scene.class_ids.dtype == np.int32
    assert scene.boxes_xyxy.shape == (len(scene.class_ids), 4)
    x0, y0, x1, y1 = scene.boxes_xyxy.T
    assert (x0 >= 0).all()
    assert (y0 >= 0).all()
    assert (x1 <= width).all()
    assert (y1 <= height).all()
    assert (x1 - x0 >= 1).all()
    assert (y1 - y0 >= 1).all()
    assert set(scene.class_ids.tolist()) <= set(range(len(CLASS_NAMES)))


def test_the_classes_are_cone_ball_crate_and_tag() -> None:
    assert CLASS_NAMES == ("cone", "ball", "crate", "tag")


def test_the_same_seed_gives_the_same_training_scene() -> None:
    one, two = training_scene(7), training_scene(7)
    assert np.array_equal(one.frame_bgr, two.frame_bgr)
    assert np.array_equal(one.boxes_xyxy, two.boxes_xyxy)
    assert np.array_equal(one.class_ids, two.class_ids)


def test_another_seed_gives_another_training_scene() -> None:
    assert not np.array_equal(training_scene(7).frame_bgr, training_scene(8).frame_bgr)


def test_a_scene_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from mecha.arena.scene import ArenaCamera, calibration_scene, training_scene; "
        "parts = ArenaCamera(3).scene(5).frame_bgr, training_scene(9).frame_bgr, calibration_scene(1, 2, 96, 64); "
        "print(hashlib.sha256(b''.join(part.tobytes() for part in parts)).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    parts = ArenaCamera(3).scene(5).frame_bgr, training_scene(9).frame_bgr, calibration_scene(1, 2, 96, 64)
    assert there == hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_camera_frames_do_not_depend_on_the_order_they_are_asked_for() -> None:
    forwards, backwards = ArenaCamera(4, 160, 120), ArenaCamera(4, 160, 120)
    first = [forwards.scene(index).frame_bgr for index in range(4)]
    last = [backwards.scene(index).frame_bgr for index in reversed(range(4))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, last, strict=True))


@pytest.mark.parametrize("seed", range(30))
def test_training_scenes_have_sound_truth(seed: int) -> None:
    assert_truth_is_sound(training_scene(seed), 320, 320)


@pytest.mark.parametrize("seed", range(3))
def test_the_camera_has_sound_truth_all_along_its_drive(seed: int) -> None:
    camera = ArenaCamera(seed)
    for index in range(0, 3000, 150):
        assert_truth_is_sound(camera.scene(index), 640, 480)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (17, 31), (641, 479), (33, 640)])
def test_any_size_from_one_pixel_up_can_be_rendered(size: tuple[int, int]) -> None:
    assert_truth_is_sound(training_scene(1, *size), *size)
    assert_truth_is_sound(ArenaCamera(1, *size).scene(3), *size)
    assert calibration_scene(0, 0, *size).shape == (size[1], size[0], 3)


def test_training_scenes_hold_every_class_about_as_often() -> None:
    counts = np.bincount(np.concatenate([training_scene(seed).class_ids for seed in range(40)]), minlength=4)
    assert counts.min() > 0.5 * counts.mean()


def test_objects_move_smoothly_with_the_index() -> None:
    camera = ArenaCamera(0)
    for index in range(0, 300, 30):
        now, then = camera.scene(index), camera.scene(index + 1)
        differences = cv2.absdiff(now.frame_bgr, then.frame_bgr)
        assert differences.mean() < 25
        inner = (now.boxes_xyxy > 20).all(axis=1) & (now.boxes_xyxy[:, 2] < 620) & (now.boxes_xyxy[:, 3] < 460)
        steps = [
            np.abs(then.boxes_xyxy[then.class_ids == class_id] - box).max(axis=1, initial=0).min(initial=np.inf)
            for box, class_id in zip(now.boxes_xyxy[inner], now.class_ids[inner], strict=True)
        ]
        assert np.median(steps) < 8


def test_a_box_is_tight_round_what_can_be_seen() -> None:
    """A lone red ball on black: the box ends where the colour ends."""
    scene = _lone_ball()
    (x0, y0, x1, y1) = scene.boxes_xyxy[0].astype(int)
    red = (scene.frame_bgr[..., 2] > 60) & (scene.frame_bgr[..., 0] < 20) & (scene.frame_bgr[..., 1] < 20)
    rows, columns = np.nonzero(red)
    assert scene.class_ids.tolist() == [BALL]
    assert abs(columns.min() - x0) <= 1
    assert abs(rows.min() - y0) <= 1
    assert abs(columns.max() + 1 - x1) <= 1
    assert abs(rows.max() + 1 - y1) <= 1


def _lone_ball(hidden: float = 0.0) -> Scene:
    """A red ball on black; a blue board covers the share `hidden` of its width from the left."""
    view = View(320, 320, (0.0, 0.0, 1.0), 0.0, 0.0, 0.0, 1.0)
    painter = Painter(np.zeros((320, 320, 3), np.uint8), view, Light(np.array([0.0, 0.0, -1.0]), 0.5))
    painter.begin(BALL)
    painter.disc(np.array([160.0, 160.0]), 50.0, np.array([0.0, 0.0, 200.0]), solid=True)
    painter.begin(None)
    right = 110 + 100 * hidden
    painter.solid(np.array([[50.0, 50], [right, 50], [right, 250], [50, 250]]), np.array([200.0, 0, 0]))
    return painter.finish()


def test_a_half_hidden_object_has_the_box_of_its_visible_half() -> None:
    box = _lone_ball(hidden=0.5).boxes_xyxy[0]
    assert box == pytest.approx([160, 110, 211, 211], abs=2)


def test_an_object_of_which_little_can_be_seen_is_not_in_the_truth() -> None:
    assert len(_lone_ball(hidden=0.8).boxes_xyxy) == 0


def test_calibration_scenes_depend_on_seed_and_index() -> None:
    frames = [calibration_scene(seed, index, 160, 120) for seed, index in ((0, 0), (0, 1), (1, 0))]
    assert frames[0].dtype == np.uint8
    assert np.array_equal(frames[0], calibration_scene(0, 0, 160, 120))
    assert not np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


def test_calibration_scenes_use_the_whole_range_of_brightness_and_colour() -> None:
    frame = calibration_scene(0, 0, 640, 640)
    low, high = np.percentile(frame.reshape(-1, 3), [2, 98], axis=0)
    assert (high - low > 150).all()


def test_a_ball_beside_the_camera_does_not_cover_the_frame() -> None:
    """In this scene a ball lies just in front of the lens plane, but outside of the frame."""
    scene = training_scene(45)
    assert len(scene.boxes_xyxy) == 3
    assert scene.frame_bgr.std() > 30
