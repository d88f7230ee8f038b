"""Memory and mAP in a report and in `models show`: there where they were measured, and not otherwise."""

from dataclasses import replace

from mecha.cli.show import show_lines
from mecha.quantize.report.markdown import markdown
from mecha.quantize.report.page import page
from mecha.quantize.report.rows import Facts
from mecha.store.manifest import GateRecord, Int8Record, MemoryRecord
from tests.quantize.report.a_report import FACTS, RECORD, REPORT

MEMORY = MemoryRecord(threads=1, fp32_mb=67.2, int8_mb=42.5)


def with_gate(**changes: object) -> Facts:
    gate = RECORD.gate
    assert gate is not None
    return replace(FACTS, record=RECORD.model_copy(update={"gate": gate.model_copy(update=changes)}))


def shown(int8: Int8Record) -> list[str]:
    document = {
        "name": "m",
        "licence": "MIT",
        "source": "project",
        "state": "ready",
        "fault": None,
        "catalog": None,
        "path": "models/m",
        "config": {
            "task": "object-detection", "family": "yolov8", "classes": ["a"], "preprocessing": "yolo",
            "input": {"dynamic": False, "width": 64, "height": 64},
        },
        "manifest": {
            "origin": {"revision": ""}, "files": {}, "int8": int8.model_dump(mode="json"), "tuned": None,
        },
    }  # fmt: skip
    return list(show_lines(document))


def test_the_memory_of_both_precisions_is_shown() -> None:
    facts = with_gate(memory=MEMORY)
    assert "| Memory | INT8 42 MB, FP32 67 MB, each loaded and run on its own |" in markdown(REPORT, facts)
    assert "<dt>Memory</dt><dd>42 MB<small>FP32 67 MB</small></dd>" in page(REPORT, facts)
    assert "  memory     FP32 67 MB, INT8 42 MB, each on its own" in shown(facts.record)


def test_memory_that_was_not_measured_is_not_shown() -> None:
    assert "Memory" not in markdown(REPORT, FACTS)
    assert "Memory" not in page(REPORT, FACTS)
    broken = Int8Record(state="rejected", gate=GateRecord(verdict="wrong", reason="r"))
    assert not [line for line in [*shown(RECORD), *shown(broken)] if "memory" in line]
