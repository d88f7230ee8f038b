"""What crosses between the pull and the child process that makes INT8."""

from pathlib import Path

import pytest
from tests.detect.blob_detector import blob_detector
from tests.reliability.robot import robot
from tests.service.test_wrong_input import mounted

from mecha.errors import DiskError, IntegrityError, MechaError, NoSpaceError, QuantizationError
from mecha.service.job import FaultLine

CATALOG = """
[[models]]
name = "blobs"
task = "object-detection"
path = "blobs.onnx"

[models.quantize]
enabled = true
method = "dynamic_int8"
escalate = false
"""


@pytest.mark.parametrize(
    ("error", "kind", "raised"),
    [
        (NoSpaceError("full", hint="free some"), "space", NoSpaceError),
        (DiskError("read-only", hint="mount it"), "disk", DiskError),
        (QuantizationError("no", hint="try"), "int8", QuantizationError),
        (IntegrityError("damaged", hint="pull"), "int8", QuantizationError),
    ],
)
def test_an_error_of_the_child_is_the_same_kind_of_error_to_its_parent(
    error: MechaError, kind: str, raised: type[MechaError]
) -> None:
    line = FaultLine.of(error)
    assert line.kind == kind
    again = FaultLine.model_validate_json(line.model_dump_json()).error(otherwise="unused")
    assert (type(again), str(again), again.hint) == (raised, str(error), error.hint)


def test_an_error_without_a_hint_gets_one() -> None:
    assert FaultLine.of(DiskError("no")).error(otherwise="run it again").hint == "run it again"


def test_a_full_folder_for_temporary_files_is_told_as_a_full_disk(tmp_path: Path) -> None:
    bench = robot(tmp_path / "robot", "http://127.0.0.1:9", int8=True)
    (bench.root / "blobs.onnx").write_bytes(blob_detector())
    bench.write_catalog(CATALOG)
    done = bench.command("models", "pull", "blobs", "--no-quantize")
    assert done.returncode == 0, done.stderr
    published = (bench.root / "models" / "blobs" / "manifest.json").read_bytes()

    with mounted(tmp_path / "small", "size=8k"):
        (tmp_path / "small" / "filler").write_bytes(bytes(4096))
        done = bench.command("models", "quantize", "blobs", TMPDIR=str(tmp_path / "small"))

    assert done.returncode == 7, done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    small = tmp_path / "small"
    assert error == f"error: {small}: cannot write: no space left: 4.1 kB free on {small}"
    assert hint.startswith("  next: Free some space")
    assert (bench.root / "models" / "blobs" / "manifest.json").read_bytes() == published
    assert bench.command("models", "verify", "blobs").returncode == 0
