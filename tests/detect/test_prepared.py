import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from mecha.detect.decode.candidates import Candidates
from mecha.detect.decoder_record import UnreadableRecordError, decoder_of, record_of
from mecha.detect.detector import Detector
from mecha.detect.pipeline import load_pipeline
from mecha.detect.prepared import MOST_COPIES, Prepared, PreparedCopies, prepared_key
from tests.detect.blob_detector import RED, blob_detector, blob_spec, scene

FRAME = scene((8, 8, 16, RED))


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    file = tmp_path / "blobs.onnx"
    file.write_bytes(blob_detector())
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "prepared"


def load(file: Path, folder: Path) -> Prepared:
    load_pipeline(file, blob_spec(), height=64, width=64, threads=1, copies=PreparedCopies(folder))
    (kept,) = folder.iterdir()
    found = PreparedCopies(folder).find(kept.name)
    assert found is not None
    return found


def test_what_is_made_of_a_file_is_kept(blobs: Path, folder: Path) -> None:
    found = load(blobs, folder)
    assert (found.cut, found.pixels) == (True, True)
    assert found.model != blobs.read_bytes()


def test_the_copy_is_what_runs_the_next_time(blobs: Path, folder: Path) -> None:
    load(blobs, folder)
    copy = next(folder.iterdir())
    written = copy.stat().st_mtime_ns
    load(blobs, folder)
    assert copy.stat().st_mtime_ns == written


def test_a_detector_starts_without_the_onnx_package_once_a_copy_is_there(blobs: Path) -> None:
    expected = Detector.from_file(blobs, blob_spec(), precision="FP32")(FRAME)
    program = (
        "import sys; sys.modules['onnx'] = None\n"
        "from pathlib import Path\n"
        "from mecha.detect.detector import Detector\n"
        "from tests.detect.blob_detector import RED, blob_spec, scene\n"
        "detector = Detector.from_file(Path(sys.argv[1]), blob_spec(), precision='FP32')\n"
        "print(detector.cut, repr(detector.notice), detector(scene((8, 8, 16, RED))).boxes_xyxy.tolist())\n"
    )
    # The description of the model under test needs onnx itself, so it is read before that is refused.
    program = program.replace("import sys;", "import sys, tests.detect.blob_detector;")
    done = subprocess.run([sys.executable, "-c", program, blobs], capture_output=True, text=True, check=True)
    assert done.stdout == f"True '' {expected.boxes_xyxy.tolist()}\n"


@pytest.mark.parametrize("damage", ["cut short", "changed", "empty", "other key"])
def test_a_copy_that_is_not_what_was_kept_is_made_again(blobs: Path, folder: Path, damage: str) -> None:
    good = load(blobs, folder)
    copy = next(folder.iterdir())
    data = copy.read_bytes()
    if damage == "other key":
        copy = copy.rename(copy.with_name("0" * 64))
        assert PreparedCopies(folder).find(copy.name) is None
        return
    copy.write_bytes({"cut short": data[:-1], "changed": data[:-1] + b"\0", "empty": b""}[damage])
    assert PreparedCopies(folder).find(copy.name) is None
    assert load(blobs, folder).model == good.model
    assert copy.read_bytes() == data


def test_every_thing_a_copy_depends_on_is_in_its_key() -> None:
    spec = blob_spec()
    key = prepared_key("a" * 64, spec, height=64, width=64)
    assert key == prepared_key("a" * 64, spec, height=64, width=64)
    others = [
        prepared_key("b" * 64, spec, height=64, width=64),
        prepared_key("a" * 64, spec, height=64, width=96),
        prepared_key("a" * 64, spec, height=64, width=64, square=True),
        prepared_key("a" * 64, spec.model_copy(update={"preprocessing": "yolox"}), height=64, width=64),
        prepared_key("a" * 64, spec.model_copy(update={"family": "yolox"}), height=64, width=64),
    ]
    assert len({key, *others}) == 6


def test_no_copies_beyond_the_newest_are_kept(blobs: Path, folder: Path) -> None:
    prepared = load(blobs, folder)
    copies = PreparedCopies(folder)
    os.utime(next(folder.iterdir()), (1, 1))
    for number in range(MOST_COPIES + 3):
        copies.keep(f"{number:064}", prepared)
        os.utime(folder / f"{number:064}", (1_000_000_000 + number,) * 2)
    left = sorted(file.name for file in folder.iterdir())
    assert left == [f"{number:064}" for number in range(3, MOST_COPIES + 3)]


def test_a_folder_that_cannot_be_written_costs_only_the_copy(blobs: Path, tmp_path: Path) -> None:
    # A file in the place of a folder refuses root too.
    (tmp_path / "cache").write_bytes(b"")
    copies = PreparedCopies(tmp_path / "cache" / "prepared")
    pipeline = load_pipeline(blobs, blob_spec(), height=64, width=64, threads=1, copies=copies)
    assert pipeline.cut


def test_a_detector_that_came_from_a_copy_finds_the_same(blobs: Path) -> None:
    first, second = (Detector.from_file(blobs, blob_spec(), precision="FP32") for _ in range(2))
    assert first(FRAME).to_json() == second(FRAME).to_json() != []
    assert first.digest == second.digest


class Foreign:
    """A decoder from elsewhere."""

    overlapping = True

    def candidates(self, outputs: object, score_threshold: float, *, every_class: bool = False) -> Candidates:
        raise NotImplementedError

    def raw(self, outputs: object) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def at(self, height: int, width: int) -> Self:
        raise NotImplementedError


def test_a_decoder_that_json_cannot_hold_is_not_recorded() -> None:
    assert record_of(Foreign()) is None


@pytest.mark.parametrize(
    "record",
    [
        None,
        3,
        {},
        {"class": "Popen", "module": "subprocess", "state": {}},
        {"class": "Nothing", "module": "mecha.detect.decode.yolov8", "state": {}},
        {"class": "logit", "module": "mecha.detect.decode.candidates", "state": {}},
    ],
)
def test_a_record_of_no_decoder_is_refused(record: object) -> None:
    with pytest.raises(UnreadableRecordError):
        decoder_of(record)
