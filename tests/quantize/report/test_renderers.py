"""How a report is written: golden files, and what must never get through."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mecha.quantize.report import charts
from mecha.quantize.report.document import document
from mecha.quantize.report.markdown import ALL_TENSORS, markdown, tensor_table
from mecha.quantize.report.page import page
from mecha.quantize.report.rows import Facts, FloatConv, Report, TensorRow
from mecha.quantize.report.sentences import chosen_point, float_reason
from mecha.store.manifest import Int8Record
from tests.quantize.frames_of_noise import spec_of
from tests.quantize.report.a_report import FACTS, RECORD, REPORT

GOLDEN = Path(__file__).parent / "golden"
EVIL = "<script>alert(1)</script>|`\"&'"
_VOID = frozenset({"meta", "img", "br"})


def row(**changes: Any) -> TensorRow:
    return replace(REPORT.tensors[0], **changes)


@pytest.mark.parametrize(
    ("name", "text"), [("report.md", markdown(REPORT, FACTS)), ("report.html", page(REPORT, FACTS))]
)
def test_a_report_reads_as_the_golden_file(name: str, text: str) -> None:
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


class Balanced(HTMLParser):
    """Knows which elements are open, and refuses those that are closed in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("report", [REPORT, None], ids=["measured", "not measured"])
def test_a_page_is_whole_and_needs_nothing_from_elsewhere(report: Report | None) -> None:
    text = page(report, FACTS)
    seen = parsed(text).seen
    tags = [tag for tag, _ in seen]
    assert tags.count("h1") == tags.count("title") == tags.count("main") == 1
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(tags)
    addresses = [str(attrs[name]) for _, attrs in seen for name in ("src", "href") if name in attrs]
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert re.search(r"url\(|@import|https?:", text) is None
    assert all(attrs.get("alt") for tag, attrs in seen if tag == "img")
    assert all(attrs.get("aria-label") for tag, attrs in seen if tag == "svg")
    assert tags.count("caption") == tags.count("table") > 0
    assert all(attrs.get("scope") for tag, attrs in seen if tag == "th")


def evil() -> tuple[Report, Facts]:
    record = RECORD.model_dump(mode="json")
    record |= {"message": EVIL, "notes": (EVIL,), "method": EVIL, "requested_method": EVIL}
    record["gate"]["reason"] = EVIL
    record["calibration"]["description"] = EVIL
    record["tried"][0] |= {"method": EVIL, "reason": EVIL}
    record["gains"][0]["technique"] = EVIL
    record["curve"][1]["left_float"] = (EVIL,)
    facts = replace(
        FACTS,
        spec=spec_of().model_copy(update={"name": EVIL}),
        record=Int8Record.model_validate(record),
        created=EVIL,
        tools={EVIL: EVIL, "mecha": EVIL},
        device={EVIL: EVIL},
        fault=EVIL,
    )
    report = replace(
        REPORT,
        tensors=(row(node=EVIL, op_type=EVIL, tensor=EVIL), *REPORT.tensors),
        blocks=(replace(REPORT.blocks[0], name=EVIL), *REPORT.blocks),
        float_convs=(FloatConv(EVIL, "body"),),
        frames_description=EVIL,
        skipped=(EVIL,),
    )
    return report, facts


def test_no_text_of_a_model_becomes_markup() -> None:
    report, facts = evil()
    text = page(report, facts)
    assert "script" not in {tag for tag, _ in parsed(text).seen}
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 15
    plain = markdown(report, facts)
    outside_code = re.sub(r"(?<!\\)`[^`\n]*`", "", plain)
    assert re.search(r"(?<!\\)<", outside_code) is None


def test_no_text_of_a_model_breaks_a_table() -> None:
    report, facts = evil()
    for block in markdown(report, facts).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) <= 1, block


def test_without_a_measurement_the_report_says_why_and_gives_what_is_known() -> None:
    facts = replace(FACTS, fault="onnxruntime cannot run the model: out of memory")
    note = "Tensors, blocks and frames could not be measured: onnxruntime cannot run the model: out of memory"
    text = markdown(None, facts)
    assert f"> {note}" in text
    assert "2.10x" in text
    assert ALL_TENSORS not in text
    assert note in page(None, facts)
    shown = document(None, facts)
    assert (shown["fault"], shown["tensors"]) == ("onnxruntime cannot run the model: out of memory", [])


def test_a_bare_record_makes_a_report_without_empty_sections() -> None:
    facts = Facts(spec_of(), Int8Record(state="built", method="adopted"), "now", 100, 30)
    text = markdown(None, facts)
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# INT8 of small", "## How it was made"]
    parsed(page(None, facts))


def test_the_document_is_json_with_a_schema_and_all_figures() -> None:
    shown = json.loads(json.dumps(document(REPORT, FACTS), allow_nan=False))
    assert shown["schema"] == 1
    assert shown["name"] == "small"
    assert shown["marked"] == 1
    first, _, last = shown["tensors"]
    assert (first["tensor"], first["snr"], first["sqnr_db"], first["marked"]) == (
        "/model.1/act/Mul_output_0", 0.2, 6.99, True,
    )  # fmt: skip
    assert last["sqnr_db"] is None
    block = {"name": "/model.1", "convs": 3, "integer_convs": 2, "precision": "INT8, 1 float"}
    assert shown["blocks"][1] == {**block, "fp32_ms": 30.0, "int8_ms": 9.0}
    assert [conv["place"] for conv in shown["left_float"]] == ["first", "body", "last"]
    assert shown["int8"]["gate"]["verdict"] == "faster"


def test_the_table_of_tensors_has_the_columns_of_xquant() -> None:
    lines = list(tensor_table(REPORT.tensors))
    assert lines[0] == "| | Op | Var | SNR | MSE | Cosine | Q.MinMax | F.MinMax | F.Hist |"
    assert lines[3] == (
        "| 1 | `/model.1/conv/Conv[Conv]` | `model.1.conv.weight[Constant]` | 0.0001 | 1e-06 | 0.9999 "
        "| -0.500,0.500 | -0.504,0.497 | 1,20,21,2 |"
    )


@pytest.mark.parametrize(
    ("snr", "cosine", "marked"),
    [(0.1, 0.99, False), (0.1001, 1.0, True), (0.0, 0.9899, True), (0.0, 1.0, False)],
)
def test_a_tensor_is_marked_over_a_tenth_of_noise_or_under_a_cosine_of_99(
    snr: float, cosine: float, *, marked: bool
) -> None:
    assert row(snr=snr, cosine=cosine).marked is marked


def test_decibels_are_those_of_signal_over_noise() -> None:
    assert row(snr=0.1).sqnr_db == pytest.approx(10.0)
    assert row(snr=1e-3).sqnr_db == pytest.approx(30.0)
    assert row(snr=0.0).sqnr_db is None


@pytest.mark.parametrize(
    ("conv", "expected"),
    [
        (
            FloatConv("x", "tail"),
            "part of the decode tail: boxes in pixels and scores share one tensor, and no 8-bit scale serves both",
        ),
        (FloatConv("/model.1/cv2/Conv", "body"), "INT8 of it costs more accuracy than it saves time"),
        (
            FloatConv("x", "body"),
            "named by an option of the catalog entry, or not of a kind that this method makes integer",
        ),
    ],
)
def test_a_conv_left_float_has_its_reason(conv: FloatConv, expected: str) -> None:
    assert float_reason(conv, FACTS) == expected


def test_the_build_stands_at_the_last_point_whose_convs_it_left_float() -> None:
    assert chosen_point(FACTS) == 1


@pytest.mark.parametrize("counts", [(), (0,), (5,), (0, 0, 3, 100000)])
def test_a_histogram_of_anything_is_drawn_within_its_frame(counts: tuple[int, ...]) -> None:
    text = charts.histogram(counts, "values")
    heights = [float(value) for value in re.findall(r"v-([\d.]+)", text)]
    assert len(heights) == sum(count > 0 for count in counts)
    assert all(0 < height <= 26 for height in heights)


@pytest.mark.parametrize(
    ("costs", "errors"), [((0.0,), (0.0,)), ((0.0, 0.0), (0.1, 0.1)), ((0.0, -0.5, 2.0), (0.3, 0.2, 0.0))]
)
def test_a_curve_of_anything_is_drawn_within_its_frame(costs: tuple[float, ...], errors: tuple[float, ...]) -> None:
    text = charts.curve(costs, errors, len(costs) - 1)
    places = [float(value) for value in re.findall(r'c[xy]="([-\d.]+)"', text)]
    assert len(places) == 2 * len(costs)
    assert all(math.isfinite(place) and 0 <= place <= 640 for place in places)
