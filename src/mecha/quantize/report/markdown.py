"""A report as report.md: tables of plain text, which read well in a terminal too."""

import re
from collections.abc import Iterable, Iterator, Sequence

from mecha.quantize.report import sentences
from mecha.quantize.report.rows import BlockRow, Facts, Report, TensorRow

# Everything before it fits on a few screens.
ALL_TENSORS = "## All tensors"
_WORST_SHOWN = 15
# What Markdown takes for a mark; it leaves an underscore within a word alone.
_MARKS = re.compile(r"[\\`*\[\]<>|#]|(?<!\w)_|_(?!\w)")
_HEADINGS = ("Op", "Var", "SNR", "MSE", "Cosine", "Q.MinMax", "F.MinMax", "F.Hist")


def markdown(report: Report | None, facts: Facts) -> str:
    """Return report.md.

    Args:
        report: None where nothing could be measured; the facts say why.
        facts: of the build.
    """
    return "\n".join([*_head(report, facts), *_gate(facts), *_measured(report, facts), *_end(report, facts)]) + "\n"


def tensor_table(rows: Iterable[TensorRow]) -> Iterator[str]:
    """Yield a table of tensors in the columns of xquant's report, the histogram of FP32 as counts."""
    yield f"| | {' | '.join(_HEADINGS)} |"
    yield "| ---: | :--- | :--- | ---: | ---: | ---: | :--- | :--- | :--- |"
    for number, row in enumerate(rows):
        cells = (*_figures(row), ",".join(str(count) for count in row.histogram))
        yield f"| {number} | {' | '.join(cells)} |"


def _head(report: Report | None, facts: Facts) -> Iterator[str]:
    yield f"# INT8 of {_plain(facts.spec.name)}"
    if facts.record.message:
        yield from ("", _plain(facts.record.message))
    yield ""
    yield from _table(("", ""), [(word, _plain(text)) for word, text in sentences.summary(report, facts)])
    for note in sentences.notes(report, facts):
        yield from ("", f"> {_plain(note)}")


def _gate(facts: Facts) -> Iterator[str]:
    gate = facts.record.gate
    rows = list(sentences.agreement(facts))
    if gate is None or gate.agreement is None:
        return
    yield from ("", "## Agreement with FP32", "")
    if rows:
        yield from _table(("Score", "F1", "Detections of FP32"), rows, right=2)
        yield ""
    yield sentences.strongest(gate.agreement)


def _measured(report: Report | None, facts: Facts) -> Iterator[str]:
    if report is not None:
        yield from _worst(report)
        yield from _blocks(report.blocks)
        yield from _left_float(report, facts)
    yield from _techniques(facts)
    if report is not None and report.samples:
        yield from ("", "## Sample frames", "")
        rows = [(str(at), str(one.fp32_count), str(one.int8_count)) for at, one in enumerate(report.samples, start=1)]
        yield from _table(("Frame", "FP32 finds", "INT8 finds"), rows, right=2)
        yield from ("", f"Detections of score {report.threshold:g} and more; report.html shows them.")


def _worst(report: Report) -> Iterator[str]:
    yield from ("", "## Worst tensors", "")
    rows = [
        ("marked" if row.marked else "", *_figures(row)[:3], _decibels(row), row_mse(row), f"{row.cosine:.4f}")
        for row in report.tensors[:_WORST_SHOWN]
    ]
    yield from _table(("", "Op", "Var", "SNR", "SQNR dB", "MSE", "Cosine"), rows, right=4)
    yield from ("", sentences.LEGEND)


def _blocks(blocks: Sequence[BlockRow]) -> Iterator[str]:
    yield from ("", "## Time by block", "")
    rows = [
        (
            _code(block.name),
            block.precision,
            f"{block.fp32_ms:.2f}",
            f"{block.int8_ms:.2f}",
            sentences.gain(block.fp32_ms, block.int8_ms),
        )
        for block in blocks
    ]
    fp32_ms, int8_ms = sum(block.fp32_ms for block in blocks), sum(block.int8_ms for block in blocks)
    total = ("all", "", f"{fp32_ms:.2f}", f"{int8_ms:.2f}", sentences.gain(fp32_ms, int8_ms))
    yield from _table(("Block", "Runs in", "FP32 ms", "INT8 ms", "Gain"), [*rows, total], right=3)
    yield from ("", sentences.BLOCKS)


def _left_float(report: Report, facts: Facts) -> Iterator[str]:
    yield from ("", "## Left float, and why", "")
    if report.float_convs:
        rows = [(_code(conv.name), sentences.float_reason(conv, facts)) for conv in report.float_convs]
        yield from _table(("Conv", "Why"), rows)
    else:
        yield "Every Conv is stored in integers."


def _techniques(facts: Facts) -> Iterator[str]:
    record = facts.record
    if record.gains:
        yield from ("", "## What each technique gained", "")
        rows = [
            (_plain(gain.technique), f"{gain.before:.5f}", f"{gain.after:.5f}", "yes" if gain.kept else "no")
            for gain in record.gains
        ]
        yield from _table(("Technique", "Error before", "Error after", "Kept"), rows)
        yield from ("", sentences.ERROR)
    if record.curve:
        yield from ("", "## Accuracy against time", "", sentences.CURVE, "")
        chosen = sentences.chosen_point(facts)
        points = [
            (
                f"{point.cost_ms:.2f}",
                f"{point.error:.5f}",
                ", ".join(_code(name) for name in point.left_float) or "nothing",
                "this build" if number == chosen else "",
            )
            for number, point in enumerate(record.curve)
        ]
        yield from _table(("Cost ms", "Error", "Left float besides", ""), points)
    if record.tried:
        yield from ("", "## What was tried", "")
        tried = [
            (
                _plain(one.method),
                one.verdict,
                f"{one.speedup:.2f}x" if one.speedup else "-",
                f"{one.agreement:.3f}" if one.agreement is not None else "-",
                _plain(one.reason),
            )
            for one in record.tried
        ]
        yield from _table(("Method", "Verdict", "Speed", "Agreement", "Reason"), tried)


def _end(report: Report | None, facts: Facts) -> Iterator[str]:
    yield from ("", "## How it was made", "")
    yield from _table(("", ""), [(_plain(word), _plain(text)) for word, text in sentences.making(report, facts)])
    if report is not None:
        yield from ("", ALL_TENSORS, "")
        yield from tensor_table(report.tensors)


def row_mse(row: TensorRow) -> str:
    """Return the mean squared error with the digits that say something."""
    return f"{row.mse:.3g}"


def _figures(row: TensorRow) -> tuple[str, ...]:
    suffix = "[Constant]" if row.kind == "constant" else ""
    return (
        _code(f"{row.node}[{row.op_type}]"),
        _code(f"{row.tensor}{suffix}"),
        f"{row.snr:.4f}",
        row_mse(row),
        f"{row.cosine:.4f}",
        "{:.3f},{:.3f}".format(*row.int8_range),
        "{:.3f},{:.3f}".format(*row.fp32_range),
    )


def _decibels(row: TensorRow) -> str:
    return "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: int = 0) -> Iterator[str]:
    """Yield a table; the last `right` columns hold figures."""
    marks = [":---"] * (len(headings) - right) + ["---:"] * right
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join(marks)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is, also within a table."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))


def _code(name: str) -> str:
    """Return a name as code; a name has neither line breaks nor backticks, or does not get far with them."""
    shown = " ".join(name.split()).replace("`", "'").replace("|", "\\|")
    return f"`{shown}`"
