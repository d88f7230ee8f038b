"""What the manifest says of an INT8 file that was made elsewhere."""

from pathlib import Path

import pytest
from tests.detect.blob_detector import blob_detector
from tests.detect.published_blobs import int8_blobs
from tests.service.jobs import blob_job

from mecha.errors import QuantizationError
from mecha.service.candidate import adopted, require_int8
from mecha.service.job import BuildJob, Candidate
from mecha.store.manifest import AgreementRecord, GateRecord, Verdict

AGREEMENT = AgreementRecord(frames=4, agreement=0.954, f1={}, detections={}, score_error=0.0, box_iou=1.0)


@pytest.fixture
def job(tmp_path: Path) -> BuildJob:
    copy = tmp_path / "candidate.onnx"
    copy.write_bytes(int8_blobs())
    return blob_job(tmp_path, candidate=Candidate(file=copy, name="best.onnx"))


@pytest.mark.parametrize(
    ("verdict", "speedup", "state", "message"),
    [
        ("faster", 2.14, "built", "adopted best.onnx: 2.1x FP32 on this CPU, agreement 0.95"),
        (
            "slower",
            0.72,
            "built",
            'adopted best.onnx: 0.7x FP32 on this CPU, agreement 0.95; slower than FP32 here, so "auto" runs FP32',
        ),
        ("wrong", None, "rejected", "best.onnx is wrong: because"),
        ("unloadable", None, "rejected", "best.onnx is unloadable: because"),
    ],
)
def test_a_right_file_is_taken_and_marked_as_a_build_is(
    job: BuildJob, verdict: Verdict, speedup: float | None, state: str, message: str
) -> None:
    assert job.candidate is not None
    gate = GateRecord(verdict=verdict, reason="because", speedup=speedup, agreement=AGREEMENT)
    record = adopted(job, job.candidate, gate)
    assert (record.state, record.method, record.key, record.message) == (state, "adopted", "k", message)
    assert [attempt.verdict for attempt in record.tried] == [verdict]
    assert (job.out_dir / "model-int8.onnx").is_file() == (state == "built")


def test_a_reason_names_the_file_as_the_user_does(job: BuildJob) -> None:
    assert job.candidate is not None
    gate = GateRecord(verdict="unloadable", reason=f"{job.candidate.file}: got noise; expected an ONNX model")
    record = adopted(job, job.candidate, gate)
    assert record.message == "best.onnx is unloadable: best.onnx: got noise; expected an ONNX model"


def test_what_is_not_int8_is_refused_and_what_is_no_model_is_left_to_the_gate(job: BuildJob) -> None:
    assert job.candidate is not None
    require_int8(job.candidate)
    job.candidate.file.write_bytes(b"noise")
    require_int8(job.candidate)
    job.candidate.file.write_bytes(blob_detector())
    with pytest.raises(QuantizationError) as caught:
        require_int8(job.candidate)
    assert str(caught.value) == "best.onnx: holds no quantized node; expected an INT8 file"
