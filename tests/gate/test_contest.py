"""Which of several INT8 files gives more of what FP32 gives."""

from pathlib import Path

import pytest

from mecha.gate.contest import contest
from tests.detect.blob_detector import GREEN, RED, blob_detector, blob_spec, scene
from tests.detect.published_blobs import int8_blobs

FRAMES = [scene((8 + step, 8, 8, RED), (40, 24 + step, 8, GREEN)) for step in range(8)]


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    file = tmp_path / "fp32.onnx"
    file.write_bytes(blob_detector())
    return file


def test_fp32_itself_agrees_in_everything(fp32: Path) -> None:
    (standing,) = contest(fp32, [fp32], blob_spec(), FRAMES, threads=1)
    assert (standing.agreement, standing.by_detections) == (1.0, True)


def test_each_file_gets_its_own_figure(fp32: Path, tmp_path: Path) -> None:
    int8 = tmp_path / "int8.onnx"
    int8.write_bytes(int8_blobs())
    first, second = contest(fp32, [int8, fp32], blob_spec(), FRAMES, threads=1)
    assert 0.5 < first.agreement <= 1.0
    assert second.agreement == 1.0


def test_a_file_that_cannot_be_loaded_stands_at_nothing(fp32: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    first, second = contest(fp32, [broken, fp32], blob_spec(), FRAMES, threads=1)
    assert (first.agreement, second.agreement) == (0.0, 1.0)


def test_without_objects_the_raw_scores_are_compared(fp32: Path) -> None:
    (standing,) = contest(fp32, [fp32], blob_spec(), [scene()], threads=1)
    assert (standing.agreement, standing.by_detections) == (1.0, False)
