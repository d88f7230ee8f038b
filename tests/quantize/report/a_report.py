"""A report with a bit of everything, and the facts of its build."""

from mecha.quantize.report.rows import BlockRow, Facts, FloatConv, Report, Sample, TensorRow
from mecha.store.manifest import (
    AccuracyRecord,
    AgreementRecord,
    CalibrationRecord,
    CurveRecord,
    GainRecord,
    GateRecord,
    Int8Record,
    LatencyRecord,
    TriedRecord,
)
from tests.quantize.frames_of_noise import spec_of

REASON = "INT8 takes 20.0 ms and FP32 42.0 ms on 1 thread: 2.10x"

REPORT = Report(
    tensors=(
        TensorRow(
            "/model.1/act/Mul", "Mul", "/model.1/act/Mul_output_0", "activation", stored=True, snr=0.2, mse=0.0125,
            cosine=0.91, int8_range=(-0.28, 4.5), fp32_range=(-0.278, 9.25), histogram=(900, 90, 9, 1),
        ),
        TensorRow(
            "/model.1/conv/Conv", "Conv", "model.1.conv.weight", "constant", stored=True, snr=0.0001, mse=1e-06,
            cosine=0.9999, int8_range=(-0.5, 0.5), fp32_range=(-0.504, 0.497), histogram=(1, 20, 21, 2),
        ),
        TensorRow(
            "Concat_9", "Concat", "output0", "output", stored=False, snr=0.0, mse=0.0, cosine=1.0,
            int8_range=(0.0, 1.0), fp32_range=(0.0, 1.0), histogram=(4,),
        ),
    ),
    blocks=(
        BlockRow("/model.0", 1, 0, 4.0, 4.5),
        BlockRow("/model.1", 3, 2, 30.0, 9.0),
        BlockRow("decode tail", 0, 0, 8.0, 6.5),
    ),
    float_convs=(
        FloatConv("/model.0/conv/Conv", "first"),
        FloatConv("/model.1/cv2/Conv", "body"),
        FloatConv("/model.2/cv3/Conv", "last"),
    ),
    samples=(Sample(64, 48, 3, 2, b"\xff\xd8fp32", b"\xff\xd8int8"),),
    threshold=0.25,
    frames=4,
    frames_description="16 photos",
    threads=1,
    skipped=("/model.3/mask",),
)  # fmt: skip

RECORD = Int8Record(
    state="built",
    key="k",
    requested_method="dynamic_int8",
    method="static_int8",
    message="dynamic_int8 is 0.7x FP32 on this CPU; built static_int8 instead: 2.1x, agreement 0.92",
    calibration=CalibrationRecord(description="32 built-in scenes", frames=32, digest="0" * 64, provisional=True),
    gate=GateRecord(
        verdict="faster",
        reason=REASON,
        speedup=2.1,
        agreement=AgreementRecord(
            frames=16, agreement=0.921, f1={"0.25": 0.945, "0.5": 0.921}, detections={"0.25": 120, "0.5": 80},
            score_error=0.0123, box_iou=0.951,
        ),
        latency=LatencyRecord(threads=1, runs=31, fp32_exported_ms=45.0, fp32_ms=42.0, int8_ms=20.0),
    ),
    tried=(
        TriedRecord(method="dynamic_int8", verdict="slower", reason="INT8 takes 60 ms", speedup=0.7, agreement=0.93),
        TriedRecord(method="static_int8", verdict="faster", reason=REASON, speedup=2.1, agreement=0.921),
    ),
    left_float=("/model.0/conv/Conv", "/model.1/cv2/Conv", "/model.2/cv3/Conv"),
    notes=("2 photos could not be read",),
    gains=(
        GainRecord(technique="bias correction", before=0.03, after=0.02, kept=True),
        GainRecord(technique="weight rounding", before=0.02, after=0.025, kept=False),
    ),
    curve=(
        CurveRecord(left_float=(), error=0.02, cost_ms=0.0),
        CurveRecord(left_float=("/model.1/cv2/Conv",), error=0.012, cost_ms=0.8),
        CurveRecord(left_float=("/model.1/cv1/Conv",), error=0.011, cost_ms=2.5),
    ),
    accuracy=AccuracyRecord(images=94, fp32_map=0.4238, int8_map=0.4211),
)  # fmt: skip

FACTS = Facts(
    spec=spec_of(),
    record=RECORD,
    created="2026-01-02T03:04:05+00:00",
    fp32_bytes=12_800_000,
    int8_bytes=3_600_000,
    tools={"mecha": "1.0", "onnxruntime": "1.31.1"},
    device={"arch": "x86_64", "cores": 2},
)
