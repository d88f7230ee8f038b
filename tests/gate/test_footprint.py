"""The memory that each precision takes: measured in real processes, and never a reason for a build to fail."""

from pathlib import Path

import pytest

from mecha.gate.footprint import measure_memory
from mecha.store.manifest import GateRecord, MemoryRecord
from mecha.store.models import ModelStore
from mecha.store.published import PublishedModel
from tests.detect.published_blobs import int8_blobs, publish_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> PublishedModel:
    return publish_blobs(ModelStore(tmp_path / "models"))


def test_each_precision_is_loaded_and_run_in_a_process_of_its_own(blobs: PublishedModel, tmp_path: Path) -> None:
    int8 = tmp_path / "int8.onnx"
    int8.write_bytes(int8_blobs())
    memory = measure_memory(blobs.fp32_path, int8, blobs.spec, threads=1)
    assert memory is not None
    assert memory.threads == 1
    # A session of the smallest model, and not the libraries around it, which take more than this.
    assert 0 < memory.fp32_mb < 40
    assert 0 < memory.int8_mb < 40


def test_what_cannot_be_run_has_no_figure(blobs: PublishedModel, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    assert measure_memory(blobs.fp32_path, broken, blobs.spec, threads=1) is None


def test_a_gate_record_of_an_earlier_version_is_read_and_has_no_figure() -> None:
    old = GateRecord.model_validate({"verdict": "faster", "reason": "2.1x"})
    assert old.memory is None
    new = old.model_copy(update={"memory": MemoryRecord(threads=1, fp32_mb=67.2, int8_mb=42.5)})
    assert GateRecord.model_validate_json(new.model_dump_json()) == new
