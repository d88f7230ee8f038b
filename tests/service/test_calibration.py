"""Where calibration frames come from: what the catalog names, and what a user names instead."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.service.conftest import CATALOG, Bench

from mecha.catalog.schema import CalibrationConfig
from mecha.errors import NotFoundError, QuantizationError
from mecha.quantize.photos import photos_at
from mecha.service.calibration import Calibration, calibration_on_disk


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        patches = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"photo{number:02}.jpg"), patches.repeat(20, axis=0).repeat(20, axis=1))


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


def test_a_dataset_that_points_nowhere_leaves_fp32_and_says_what_to_do(bench: Bench) -> None:
    (bench.root / "coco8.yaml").write_text("path: ../datasets/coco8\ntrain: images/train\ndownload: |\n  rm -r /\n")
    table = '[models.quantize.calibration]\ndata = "coco8.yaml"\n'
    bench.write_catalog(CATALOG.format(method="static_int8", options=table))
    done = bench.command("models", "pull", "arena")
    assert done.returncode == 0, done.stderr
    file = bench.root / "coco8.yaml"
    assert done.stderr.endswith(
        f'  FP32 is ready; INT8 is not: {file}:1: path: got "../datasets/coco8"; expected the folder of the dataset: '
        f"{bench.root}/../datasets/coco8 is no folder\n"
        "  next: `download` in a dataset file is never run: bring the photos there yourself, or correct the path.\n"
    )
    assert (bench.root / "models/arena/model.onnx").is_file()
