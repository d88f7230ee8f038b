"""A report as JSON, for programs: `models report --json`."""

from dataclasses import asdict
from typing import Any

from mecha.quantize.report.rows import Facts, Report, TensorRow
from mecha.quantize.report.sentences import float_reason

# As many as tell every float32 from the next: a report that is written again from them rounds as it did before.
_DIGITS = 9


def document(report: Report | None, facts: Facts) -> dict[str, Any]:
    """Return what report.json holds; pictures are left out."""
    record = facts.record
    return {
        "schema": 1,
        "name": facts.spec.name,
        "created": facts.created,
        "fault": facts.fault or None,
        "fp32_bytes": facts.fp32_bytes,
        "int8_bytes": facts.int8_bytes,
        "tools": dict(facts.tools),
        "device": dict(facts.device),
        "int8": record.model_dump(mode="json", by_alias=True),
        "threshold": report.threshold if report else None,
        "threads": report.threads if report else None,
        "frames": report.frames if report else None,
        "frames_description": report.frames_description if report else None,
        "marked": report.marked if report else None,
        "tensors": [_tensor(row) for row in report.tensors] if report else [],
        "skipped": list(report.skipped) if report else [],
        "blocks": [{**asdict(block), "precision": block.precision} for block in report.blocks] if report else [],
        "left_float": [
            {"name": conv.name, "place": conv.place, "reason": float_reason(conv, facts)}
            for conv in (report.float_convs if report else ())
        ],
        "samples": [
            {"fp32_detections": sample.fp32_count, "int8_detections": sample.int8_count}
            for sample in (report.samples if report else ())
        ],
    }


def _tensor(row: TensorRow) -> dict[str, Any]:
    decibels = row.sqnr_db
    return {
        "node": row.node,
        "op_type": row.op_type,
        "tensor": row.tensor,
        "kind": row.kind,
        "stored": row.stored,
        "marked": row.marked,
        "snr": _rounded(row.snr),
        "sqnr_db": None if decibels is None else round(decibels, 2),
        "mse": _rounded(row.mse),
        "cosine": _rounded(row.cosine),
        "int8_range": [_rounded(value) for value in row.int8_range],
        "fp32_range": [_rounded(value) for value in row.fp32_range],
        "histogram": list(row.histogram),
    }


def _rounded(value: float) -> float:
    """Return a figure with as many digits as mean something."""
    return float(f"{value:.{_DIGITS}g}")
