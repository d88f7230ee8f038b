"""Where calibration frames come from: what the catalog names, and what a user names instead."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.service.conftest import CATALOG, PLAIN, Bench

from mecha.catalog.schema import CalibrationConfig
from mecha.errors import NotFoundError, QuantizationError
from mecha.quantize.photos import photos_at
from mecha.service.calibration import Calibration, calibration_on_disk, is_gathered
from mecha.service.chosen import gathered_before
from mecha.store.manifest import ChosenCalibration


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        patches = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"photo{number:02}.jpg"), patches.repeat(20, axis=0).repeat(20, axis=1))


def manifest(bench: Bench) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((bench.root / "models/arena/manifest.json").read_text())
    return loaded


def on_disk(root: Path, **keys: Any) -> Calibration:
    return calibration_on_disk(CalibrationConfig(**keys), root)


def test_photos_are_named_by_a_folder_a_file_a_list_or_a_dataset(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    one, two = (tmp_path / "photos" / f"photo0{number}.jpg" for number in (0, 1))
    (tmp_path / "calib.txt").write_text("photos/photo00.jpg\nphotos/photo01.jpg\nphotos/gone.jpg\n")
    (tmp_path / "set.yaml").write_text("train: photos\nval: elsewhere\n")
    assert [(found.paths, found.origin) for found in (
        on_disk(tmp_path, path="photos"),
        on_disk(tmp_path, path=str(one)),
        on_disk(tmp_path, list="calib.txt"),
        on_disk(tmp_path, data="set.yaml"),
    )] == [
        ((tmp_path / "photos",), "photos/"),
        ((one,), ""),
        ((one, two), "list calib.txt (1 of 3 not there)"),
        ((tmp_path / "photos",), "train in set.yaml"),
    ]  # fmt: skip


def test_the_digest_changes_with_the_photos_and_their_number_and_with_nothing_else(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    before = on_disk(tmp_path, path="photos", samples=8).digest
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"1")
    (tmp_path / "photos" / "notes.txt").write_text("mine")
    assert on_disk(tmp_path, path="photos", samples=8).digest == before
    assert on_disk(tmp_path, path="photos", samples=9).digest != before
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert on_disk(tmp_path, path="moved", samples=8).digest == before
    os.utime(photos_at(tmp_path / "moved")[0], (1, 1))
    assert on_disk(tmp_path, path="moved", samples=8).digest != before


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as refusal:
        on_disk(tmp_path, path="photos")
    assert str(refusal.value) == f"{tmp_path / 'photos'}: no such file or folder; expected photos to calibrate on"
    (tmp_path / "calib.txt").write_text("gone.jpg\n")
    with pytest.raises(QuantizationError, match="got 1 of 1 photos that are not there"):
        on_disk(tmp_path, list="calib.txt")


def test_a_catalog_that_names_a_dataset_is_calibrated_on_its_photos(bench: Bench) -> None:
    write_photos(bench.root / "coco8" / "images" / "train", 8)
    (bench.root / "coco8.yaml").write_text("path: coco8\ntrain: images/train\nval: images/val\nnames:\n  0: cone\n")
    table = '[models.quantize.calibration]\ndata = "coco8.yaml"\nsamples = 6\n'
    bench.write_catalog(CATALOG.format(method="static_int8", options=PLAIN + table))
    done = bench.command("models", "pull", "arena")
    assert (done.returncode, done.stderr.count("INT8 is not")) == (0, 0), done.stderr
    calibration = manifest(bench)["int8"]["calibration"]
    assert (calibration["description"], calibration["provisional"]) == ("6 photos of train in coco8.yaml", False)
    assert "nothing to do" in bench.command("models", "pull", "arena").stdout


def test_a_dataset_that_points_nowhere_leaves_fp32_and_says_what_to_do(bench: Bench) -> None:
    (bench.root / "coco8.yaml").write_text("path: ../datasets/coco8\ntrain: images/train\ndownload: |\n  rm -r /\n")
    table = '[models.quantize.calibration]\ndata = "coco8.yaml"\n'
    bench.write_catalog(CATALOG.format(method="static_int8", options=PLAIN + table))
    done = bench.command("models", "pull", "arena")
    assert done.returncode == 0, done.stderr
    file = bench.root / "coco8.yaml"
    assert done.stderr.endswith(
        f'  FP32 is ready; INT8 is not: {file}:1: path: got "../datasets/coco8"; expected the folder of the dataset: '
        f"{bench.root}/../datasets/coco8 is no folder\n"
        "  next: `download` in a dataset file is never run: bring the photos there yourself, or correct the path.\n"
    )
    assert (bench.root / "models/arena/model.onnx").is_file()


def published(bench: Bench) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (bench.root / "models/arena").iterdir()}


def test_a_chosen_calibration_is_built_from_compared_and_kept_to(pulled: Bench) -> None:
    write_photos(pulled.root / "photos", 12)
    done = pulled.command("models", "quantize", "arena", "--calibration", "photos", "--samples", "8")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"  agreement with FP32 on frames that were kept apart: [01]\.\d{3} before, [01]\.\d{3} now\n", done.stdout
    )
    int8 = manifest(pulled)["int8"]
    assert (int8["calibration"]["description"], int8["calibration"]["provisional"]) == ("8 photos of photos/", False)
    assert (int8["chosen"]["source"], int8["chosen"]["samples"]) == ("photos", 8)
    before = published(pulled)
    # The server is gone: this holds only where there is nothing to do.
    assert "nothing to do" in pulled.command("models", "pull", "arena").stdout
    shutil.rmtree(pulled.root / "photos")
    assert "nothing to do" in pulled.command("models", "pull", "arena").stdout
    assert published(pulled) == before


def test_a_chosen_calibration_that_changed_is_built_from_again_until_the_catalog_s_is_asked_for(pulled: Bench) -> None:
    of_catalog = manifest(pulled)["int8"]["key"]
    write_photos(pulled.root / "photos", 8)
    assert pulled.command("models", "quantize", "arena", "--calibration", "photos", "--samples", "4").returncode == 0
    first = manifest(pulled)["int8"]
    write_photos(pulled.root / "photos", 9)
    done = pulled.command("models", "pull", "arena")
    assert done.returncode == 0, done.stderr
    again = manifest(pulled)["int8"]
    assert again["key"] != first["key"]
    assert again["chosen"]["source"] == "photos"
    assert again["chosen"]["digest"] != first["chosen"]["digest"]
    assert pulled.command("models", "quantize", "arena", "--calibration", "catalog").returncode == 0
    assert (manifest(pulled)["int8"]["key"], manifest(pulled)["int8"]["chosen"]) == (of_catalog, None)


def test_a_build_that_needs_frames_which_are_gone_says_what_it_took_instead(pulled: Bench) -> None:
    write_photos(pulled.root / "photos", 8)
    assert pulled.command("models", "quantize", "arena", "--calibration", "photos").returncode == 0
    shutil.rmtree(pulled.root / "photos")
    done = pulled.command("models", "quantize", "arena")
    assert done.returncode == 0, done.stderr
    assert (
        f"calibrated as the catalog says, not as chosen before: {pulled.root / 'photos'}: no such file or folder; "
        "expected photos to calibrate on" in done.stdout + done.stderr
    )
    int8 = manifest(pulled)["int8"]
    assert (int8["chosen"], int8["calibration"]["provisional"]) == (None, True)


def test_gathered_frames_are_kept_in_the_project_and_built_from(pulled: Bench) -> None:
    done = pulled.command(
        "models", "calibrate", "arena", "--from", "arena://?seed=3&size=160x120&fps=2", "--frames", "12"
    )
    assert done.returncode == 0, done.stderr
    assert "gathering frames 12 of 12" in done.stderr
    folder = pulled.root / "calibration" / "arena"
    assert [path.name for path in sorted(folder.iterdir())] == [f"frame-{slot:03}.jpg" for slot in range(12)]
    assert [path.name for path in folder.parent.iterdir()] == ["arena"]
    int8 = manifest(pulled)["int8"]
    assert int8["calibration"]["description"] == "9 photos of calibration/arena/"
    report = json.loads((pulled.root / "models/arena/report.json").read_text())
    # What a camera saw goes into no report.
    assert report["frames_description"] == "16 built-in scenes"
    assert int8["chosen"]["source"] == "calibration/arena"
    assert "nothing to do" in pulled.command("models", "pull", "arena").stdout


def test_gathered_frames_are_built_from_where_no_manifest_tells_of_them(pulled: Bench) -> None:
    gathered = pulled.command("models", "calibrate", "arena", "--from", "arena://?size=160x120&fps=2", "--frames", "8")
    assert gathered.returncode == 0, gathered.stderr
    before = manifest(pulled)["int8"]
    for lost in ("damaged", "removed"):
        if lost == "removed":
            assert pulled.command("models", "remove", "arena", "-y").returncode == 0
        else:
            (pulled.root / "models/arena/manifest.json").write_text("{")
        done = pulled.command("models", "pull", "arena", "--offline")
        assert done.returncode == 0, done.stderr
        after = manifest(pulled)["int8"]
        assert (after["key"], after["chosen"]) == (before["key"], before["chosen"])
        assert after["calibration"]["description"] == "6 photos of calibration/arena/"
        assert "nothing to do" in pulled.command("models", "pull", "arena").stdout


def test_an_empty_folder_of_gathered_frames_is_none(tmp_path: Path) -> None:
    assert gathered_before("arena", tmp_path) is None
    (tmp_path / "calibration/arena").mkdir(parents=True)
    assert gathered_before("arena", tmp_path) is None
    write_photos(tmp_path / "calibration/arena", 4)
    assert gathered_before("arena", tmp_path) == ChosenCalibration(source="calibration/arena", samples=3)


@pytest.mark.parametrize(("source", "gathered"), [("calibration/arena", True), ("photos", False), (".", False)])
def test_only_what_lies_in_the_folder_for_it_was_gathered(source: str, *, gathered: bool) -> None:
    assert is_gathered(ChosenCalibration(source=source, samples=1)) is gathered


def test_photos_may_have_names_that_are_no_text(pulled: Bench) -> None:
    write_photos(pulled.root / "photos", 12)
    for number, file in enumerate(photos_at(pulled.root / "photos")[:10]):
        file.rename(os.fsdecode(bytes(file.parent) + b"/caf\xe9%d.jpg" % number))
    (pulled.root / os.fsdecode(b"photos/a\xe9.jpg")).write_bytes(b"<html>")
    done = pulled.command("models", "quantize", "arena", "--calibration", "photos", "--samples", "4")
    assert done.returncode == 0, done.stderr
    assert manifest(pulled)["int8"]["calibration"]["description"].startswith("4 photos")
    assert "nothing to do" in pulled.command("models", "pull", "arena").stdout


def test_a_photo_whose_name_is_no_text_is_named_in_the_sentence_about_it(pulled: Bench) -> None:
    folder = pulled.root / "broken"
    folder.mkdir()
    for number in range(3):
        (folder / os.fsdecode(b"a\xe9%d.jpg" % number)).write_bytes(b"<html>")
    for command in (("quantize", "arena", "--calibration"), ("calibrate", "arena", "--from")):
        done = pulled.command("models", *command, "broken", "--json")
        assert done.returncode == 8, done.stderr
        assert (
            f"{folder}: got 3 of 3 photos that cannot be decoded, a\\udce90.jpg the first; expected at most half"
            in done.stderr
        )


def test_the_camera_of_the_project_is_what_its_camera_node_reads(pulled: Bench) -> None:
    assert pulled.command("init", "laid-out").returncode == 0
    config = pulled.root / "laid-out/configs/common/nodes/camera/config.json"
    config.write_text('{"source": "/dev/video97"}')
    shutil.copytree(pulled.root / "models", pulled.root / "laid-out/models")
    inside = Bench(pulled.root / "laid-out", pulled.home, pulled.environ)
    done = inside.command("models", "calibrate", "arena", "--from", "camera")
    assert done.returncode == 4
    assert done.stderr.startswith("error: camera /dev/video97: /dev/video97 is not there; this machine has ")
    assert "calibration/" in (inside.root / ".gitignore").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("quantize", "--calibration", "empty"), 8, "{root}/empty: got no photo; expected at least one"),
        (
            ("quantize", "--calibration", "broken"),
            8,
            "{root}/broken: got 3 of 3 photos that cannot be decoded, a.jpg the first; expected at most half",
        ),
        (
            ("quantize", "--calibration", "gone"),
            4,
            "{root}/gone: no such file or folder; expected photos to calibrate on",
        ),
        (
            ("quantize", "--calibration", "list.txt"),
            8,
            "{root}/list.txt: got 2 of 2 photos that are not there, the first at {root}/list.txt:1: a.jpg; "
            "expected at most half",
        ),
        (
            ("quantize", "--calibration", "set.yaml"),
            3,
            '{root}/set.yaml:1: train: got "images"; expected a folder, a photo or a text file of paths: {root}/images '
            "is not there",
        ),
        (
            ("quantize", "--calibration", "video.mp4"),
            8,
            "{root}/video.mp4: got a file without a frame that can be decoded; expected a video",
        ),
        (("quantize", "--calibration", "set.yaml", "--samples", "0"), 2, "--samples: got 0; expected a whole number "
         "from 1 to 4096"),
        (("quantize", "--calibration", ""), 2, '--calibration: got ""; expected photos, a video, a file or "catalog"'),
        (("calibrate", "--from", ""), 2, '--from: got ""; expected a camera, photos, a video or a file'),
        (("quantize", "--calibration", os.fsdecode(b"caf\xe9")), 2, "caf\\udce9: got a path that is no UTF-8; "
         "expected one, since a manifest names it"),
        (("quantize", "--samples", "9"), 2, "--samples: got 9; expected --calibration with it, the photos to take them "
         "of"),
        (("calibrate", "--from", "empty"), 8, "{root}/empty: got no photo; expected at least one"),
        (
            ("calibrate", "--from", "video.mp4"),
            6,
            "{root}/video.mp4: got a file without a frame that can be decoded; expected a video",
        ),
        (("calibrate", "--from", "arena://", "--frames", "0"), 2, "--frames: got 0; expected a whole number from 1 to "
         "4096"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_wrong_calibration_is_said_and_changes_nothing(
    pulled_once: Bench, arguments: tuple[str, ...], code: int, message: str
) -> None:
    root = pulled_once.root
    (root / "empty").mkdir(exist_ok=True)
    (root / "broken").mkdir(exist_ok=True)
    for name in ("broken/a.jpg", "broken/b.jpg", "broken/c.jpg", "video.mp4"):
        (root / name).write_bytes(b"<html>")
    (root / "list.txt").write_text("a.jpg\nb.jpg\n")
    (root / "set.yaml").write_text("train: images\n")
    before = published(pulled_once)
    done = pulled_once.command("models", arguments[0], "arena", *arguments[1:])
    assert done.returncode == code, done.stderr
    assert f"error: {message.format(root=root)}\n" in done.stderr
    assert published(pulled_once) == before
    assert not (root / "calibration" / "arena").exists()


def test_a_model_that_is_not_pulled_is_said_before_a_camera_is_opened(bench: Bench) -> None:
    done = bench.command("models", "calibrate", "arena", "--from", "/dev/video97")
    assert done.returncode == 4
    assert 'error: model "arena" is not pulled' in done.stderr


def test_ctrl_c_while_frames_are_gathered_leaves_everything_as_before(pulled: Bench) -> None:
    before = published(pulled)
    # Each frame takes 50 ms to render, and of 500 one is looked at: it would not end within this test.
    child = pulled.start(
        "models", "calibrate", "arena", "--from", "arena://?size=1280x960&fps=1000", "--frames", "4096"
    )
    assert child.stdout is not None
    with child:
        for line in child.stdout:
            if line.startswith("gathering frames"):
                break
        child.send_signal(signal.SIGINT)
        try:
            rest, _ = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 130, rest
    assert published(pulled) == before
    assert list((pulled.root / "calibration").iterdir()) == []


def test_frames_gathered_before_stay_when_the_new_build_comes_to_nothing(pulled: Bench) -> None:
    assert (
        pulled.command(
            "models", "calibrate", "arena", "--from", "arena://?size=160x120&fps=2", "--frames", "8"
        ).returncode
        == 0
    )
    before = published(pulled)
    frames = {path.name: path.read_bytes() for path in (pulled.root / "calibration/arena").iterdir()}
    settings = pulled.root / "configs" / "common" / "mecha.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[quantize]\ntime_limit_s = 0.2\n")
    done = pulled.command(
        "models", "calibrate", "arena", "--from", "arena://?seed=9&size=160x120&fps=2", "--frames", "8"
    )
    assert done.returncode == 8
    assert "INT8 was not ready after 0.2 s" in done.stderr
    assert published(pulled) == before
    assert {path.name: path.read_bytes() for path in (pulled.root / "calibration/arena").iterdir()} == frames
