"""A report that was written is read back whole, pictures included, so that it can be written again."""

import json
from dataclasses import replace

import pytest

from mecha.errors import IntegrityError
from mecha.quantize.report.document import document
from mecha.quantize.report.markdown import markdown
from mecha.quantize.report.page import page
from mecha.quantize.report.restore import restored
from mecha.store.manifest import AccuracyRecord, Int8Record
from tests.quantize.report.a_report import FACTS, RECORD, REPORT


def test_what_was_written_is_read_back_as_it_was() -> None:
    assert restored(json.dumps(document(REPORT, FACTS)), page(REPORT, FACTS), FACTS.spec, RECORD) == (REPORT, FACTS)


def test_a_report_without_a_measurement_is_read_back_with_its_reason() -> None:
    facts = replace(FACTS, fault="onnxruntime cannot run the model")
    assert restored(json.dumps(document(None, facts)), page(None, facts), FACTS.spec, RECORD) == (None, facts)


def test_a_report_of_an_earlier_version_names_no_threshold() -> None:
    data = document(REPORT, FACTS)
    del data["threshold"]
    report, _ = restored(json.dumps(data), page(REPORT, FACTS), FACTS.spec, RECORD)
    assert report == REPORT


def test_it_is_written_again_with_what_was_measured_since() -> None:
    before = RECORD.model_copy(update={"accuracy": None})
    written = json.dumps(document(REPORT, replace(FACTS, record=before)))
    found = AccuracyRecord(
        images=94, fp32_map=0.4238, int8_map=0.4211, fp32_map50=0.5901, int8_map50=0.588, data="instances.json"
    )
    record = before.model_copy(update={"accuracy": found})
    report, facts = restored(written, page(REPORT, replace(FACTS, record=before)), FACTS.spec, record)
    text = markdown(report, facts)
    assert "| mAP50-95 | INT8 0.4211, FP32 0.4238 on 94 labelled photos of instances.json |" in text
    assert "| mAP50 | INT8 0.5880, FP32 0.5901 on 94 labelled photos of instances.json |" in text
    assert "<div><dt>mAP50-95</dt><dd>0.421<small>FP32 0.424</small></dd></div>" in page(report, facts)
    assert document(report, facts)["int8"]["accuracy"]["int8_map"] == 0.4211


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("not JSON", page(REPORT, FACTS)),
        ("[]", page(REPORT, FACTS)),
        ('{"created": "now"}', page(REPORT, FACTS)),
        (json.dumps(document(REPORT, FACTS)), "<p>no picture</p>"),
        (json.dumps(document(REPORT, FACTS)), page(REPORT, FACTS).replace("base64,", "base64,?")),
    ],
    ids=["no JSON", "no object", "nothing in it", "no picture", "a picture that is none"],
)
def test_what_another_program_wrote_is_refused(text: str, shown: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        restored(text, shown, FACTS.spec, RECORD)
    assert str(caught.value) == "the report is not as this version of mecha writes it"
    assert caught.value.hint == "`mecha models quantize small` builds INT8 again, with its report."


def test_the_accuracy_of_an_earlier_manifest_is_read() -> None:
    old = Int8Record.model_validate(
        {"state": "built", "accuracy": {"images": 94, "fp32_map": 0.4238, "int8_map": 0.4211}}
    )
    assert old.accuracy is not None
    assert (old.accuracy.int8_map50, old.accuracy.data) == (None, "")
