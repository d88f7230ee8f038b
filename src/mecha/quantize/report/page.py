"""A report as report.html: one file without scripts, which needs nothing from anywhere."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files

from mecha.quantize.report import charts, sentences
from mecha.quantize.report.rows import Facts, Report, TensorRow

_WORST_SHOWN = 20


def page(report: Report | None, facts: Facts) -> str:
    """Return report.html.

    Args:
        report: None where nothing could be measured; the facts say why.
        facts: of the build.
    """
    title = f"INT8 of {facts.spec.name}"
    style = files("mecha.quantize.report").joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        *_header(title, report, facts),
        "<main>",
        *_sections(report, facts),
        "</main>",
        f"<footer>Measured on this device by mecha {escape(facts.tools.get('mecha', ''))}, "
        f"{escape(facts.created)}.</footer>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _header(title: str, report: Report | None, facts: Facts) -> Iterator[str]:
    gate = facts.record.gate
    yield "<header>"
    yield f"<h1>{escape(title)}</h1>"
    if gate is not None:
        message = facts.record.message or gate.reason
        yield f'<p class="lead"><span class="verdict {gate.verdict}">{gate.verdict}</span> {escape(message)}</p>'
    yield '<dl class="cards">'
    yield from _cards(report, facts)
    yield "</dl>"
    yield from (f'<p class="note">{escape(note)}</p>' for note in sentences.notes(report, facts))
    yield "</header>"


def _cards(report: Report | None, facts: Facts) -> Iterator[str]:
    gate, accuracy = facts.record.gate, facts.record.accuracy
    if gate is not None and gate.speedup is not None:
        small = f"{gate.latency.int8_ms:.1f} ms, was {gate.latency.fp32_ms:.1f}" if gate.latency else ""
        yield _card("Speed", f"{gate.speedup:.2f}x", small)
    if gate is not None and gate.agreement is not None:
        yield _card(
            "Agreement", f"{gate.agreement.agreement:.3f}", f"on {sentences.counted(gate.agreement.frames, 'frame')}"
        )
    if accuracy is not None:
        yield _card("mAP50-95", f"{accuracy.int8_map:.3f}", f"FP32 {accuracy.fp32_map:.3f}")
    yield _card("Size", f"{facts.size_ratio:.2f}", f"{sentences.megabytes(facts.int8_bytes)} on disk")
    if gate is not None and gate.memory is not None:
        yield _card("Memory", f"{gate.memory.int8_mb:.0f} MB", f"FP32 {gate.memory.fp32_mb:.0f} MB")
    if report is not None:
        yield _card("Marked tensors", str(report.marked), f"of {len(report.tensors)}")


def _card(word: str, figure: str, small: str) -> str:
    return f"<div><dt>{escape(word)}</dt><dd>{escape(figure)}<small>{escape(small)}</small></dd></div>"


def _sections(report: Report | None, facts: Facts) -> Iterator[str]:
    if report is not None and report.samples:
        yield from _section("samples", "Both precisions on the same frames", _samples(report))
    if facts.record.gate is not None and facts.record.gate.agreement is not None:
        yield from _section("agreement", "Agreement with FP32", _agreement(facts))
    if report is not None:
        yield from _section("tensors", "Worst tensors", _tensors(report))
        yield from _section("blocks", "Time by block", _blocks(report))
        yield from _section("float", "Left float, and why", _left_float(report, facts))
    if facts.record.gains:
        yield from _section("gains", "What each technique gained", _gains(facts))
    if facts.record.curve:
        yield from _section("curve", "Accuracy against time", _curve(facts))
    if facts.record.tried:
        yield from _section("tried", "What was tried", _tried(facts))
    known = (*sentences.summary(report, facts), *sentences.making(report, facts))
    rows = [(escape(word), escape(text)) for word, text in known]
    yield from _section("made", "How it was made", _table("What was built, from what and where", (), rows, slim=True))


def _section(name: str, title: str, inner: Iterable[str]) -> Iterator[str]:
    yield f'<section aria-labelledby="{name}">'
    yield f'<h2 id="{name}">{escape(title)}</h2>'
    yield from inner
    yield "</section>"


def _samples(report: Report) -> Iterator[str]:
    for number, sample in enumerate(report.samples, start=1):
        yield '<div class="pair">'
        sides = (("FP32", sample.fp32_count, sample.fp32_jpeg), ("INT8", sample.int8_count, sample.int8_jpeg))
        for precision, count, jpeg in sides:
            found = f"{precision} finds {sentences.counted(count, 'object')}"
            data = base64.b64encode(jpeg).decode("ascii")
            yield (
                f'<figure><img src="data:image/jpeg;base64,{data}" width="{sample.width}" height="{sample.height}" '
                f'alt="Frame {number}: {found}"><figcaption>{found}</figcaption></figure>'
            )
        yield "</div>"
    scores = f"Detections of score {report.threshold:g} and more, on frames that INT8 was not made from."
    yield f'<p class="small">{scores}</p>'


def _agreement(facts: Facts) -> Iterator[str]:
    rows = [tuple(map(escape, row)) for row in sentences.agreement(facts)]
    if rows:
        headings = ("Score", "F1", "Detections of FP32")
        yield from _table("How far INT8 finds what FP32 finds", headings, rows, right=2, slim=True)
    found = facts.record.gate.agreement if facts.record.gate else None
    if found is not None:
        yield f'<p class="small">{sentences.strongest(found)}</p>'


def _tensors(report: Report) -> Iterator[str]:
    yield f'<p class="small">{escape(sentences.LEGEND)}</p>'
    yield from _tensor_table("The worst tensors, worst first", report.tensors[:_WORST_SHOWN])
    if rest := report.tensors[_WORST_SHOWN:]:
        yield f"<details><summary>The other {len(rest)} tensors</summary>"
        yield from _tensor_table("The other tensors, worst first", rest)
        yield "</details>"


def _tensor_table(caption: str, rows: Sequence[TensorRow]) -> Iterator[str]:
    headings = ("Tensor", "SNR", "SQNR dB", "MSE", "Cosine", "Q min, max", "F min, max", "F histogram")
    cells = [
        (
            _tensor_name(row),
            f"{row.snr:.4f}",
            "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
            f"{row.mse:.3g}",
            f"{row.cosine:.4f}",
            "{:.3f}, {:.3f}".format(*row.int8_range),
            "{:.3f}, {:.3f}".format(*row.fp32_range),
            charts.histogram(row.histogram, "Histogram of the FP32 values"),
        )
        for row in rows
    ]
    yield from _table(caption, headings, cells, right=7, marked=[row.marked for row in rows])


def _tensor_name(row: TensorRow) -> str:
    kinds = {"constant": "weights", "output": "output"}
    tags = [kinds[row.kind]] if row.kind in kinds else []
    tags += [] if row.stored else ["float"]
    marks = '<strong class="mark">marked</strong> ' if row.marked else ""
    shown = "".join(f' <span class="tag">{tag}</span>' for tag in tags)
    return f"{marks}<code>{escape(row.tensor)}</code>{shown}<br><small>{escape(row.op_type)}</small>"


def _blocks(report: Report) -> Iterator[str]:
    longest = max((max(block.fp32_ms, block.int8_ms) for block in report.blocks), default=0.0)
    rows = [
        (
            f"<code>{escape(block.name)}</code>",
            escape(block.precision),
            charts.bars(block.fp32_ms, block.int8_ms, longest),
            f"{block.fp32_ms:.2f}",
            f"{block.int8_ms:.2f}",
            sentences.gain(block.fp32_ms, block.int8_ms),
        )
        for block in report.blocks
    ]
    fp32_ms, int8_ms = (sum(getattr(block, side) for block in report.blocks) for side in ("fp32_ms", "int8_ms"))
    rows.append(("all", "", "", f"{fp32_ms:.2f}", f"{int8_ms:.2f}", sentences.gain(fp32_ms, int8_ms)))
    keys = '<span class="key fp32"></span> FP32 <span class="key int8"></span> INT8.'
    yield f'<p class="small">{keys} {sentences.BLOCKS}</p>'
    headings = ("Block", "Runs in", "Time", "FP32 ms", "INT8 ms", "Gain")
    yield from _table("Milliseconds a frame in each block", headings, rows, right=3)


def _left_float(report: Report, facts: Facts) -> Iterator[str]:
    if not report.float_convs:
        yield "<p>Every Conv is stored in integers.</p>"
        return
    rows = [
        (f"<code>{escape(conv.name)}</code>", escape(sentences.float_reason(conv, facts)))
        for conv in report.float_convs
    ]
    yield from _table("Convs that are not in integers", ("Conv", "Why"), rows)


def _gains(facts: Facts) -> Iterator[str]:
    rows = [
        (escape(gain.technique), f"{gain.before:.5f}", f"{gain.after:.5f}", "yes" if gain.kept else "no")
        for gain in facts.record.gains
    ]
    headings = ("Technique", "Error before", "Error after", "Kept")
    yield from _table(sentences.ERROR, headings, rows, right=3, slim=True)


def _curve(facts: Facts) -> Iterator[str]:
    points, chosen = facts.record.curve, sentences.chosen_point(facts)
    yield f'<p class="small">{sentences.CURVE}</p>'
    drawn = charts.curve([point.cost_ms for point in points], [point.error for point in points], chosen)
    yield f'<figure class="curve">{drawn}</figure>'
    rows = [
        (
            ", ".join(f"<code>{escape(name)}</code>" for name in point.left_float) or "nothing",
            "this build" if number == chosen else "",
            f"{point.cost_ms:.2f}",
            f"{point.error:.5f}",
        )
        for number, point in enumerate(points)
    ]
    yield from _table("The points of the curve", ("Left float besides", "", "Cost ms", "Error"), rows, right=2)


def _tried(facts: Facts) -> Iterator[str]:
    rows = [
        (
            escape(one.method),
            escape(one.verdict),
            f"{one.speedup:.2f}x" if one.speedup else "-",
            f"{one.agreement:.3f}" if one.agreement is not None else "-",
            escape(one.reason),
        )
        for one in facts.record.tried
    ]
    headings = ("Method", "Verdict", "Speed", "Agreement", "Reason")
    yield from _table("Methods in the order they were tried", headings, rows)


def _table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: int = 0,
    slim: bool = False,
    marked: Sequence[bool] = (),
) -> Iterator[str]:
    """Yield a table whose cells are HTML already; the last `right` columns hold figures, the first names its row.

    Args:
        slim: no wider than it needs to be.
        marked: by row.
    """
    kind = "scroll slim" if slim else "scroll"
    yield f'<div class="{kind}" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
    yield f"<caption>{escape(caption)}</caption>"
    if headings:
        first = len(headings) - right
        cells = (f'<th scope="col"{_number(at >= first)}>{escape(heading)}</th>' for at, heading in enumerate(headings))
        yield f"<thead><tr>{''.join(cells)}</tr></thead>"
    yield "<tbody>"
    for at, row in enumerate(rows):
        first = len(row) - right
        kind = ' class="marked"' if at < len(marked) and marked[at] else ""
        cells = (f"<td{_number(place >= first)}>{cell}</td>" for place, cell in enumerate(row) if place)
        yield f'<tr{kind}><th scope="row">{row[0]}</th>{"".join(cells)}</tr>'
    yield "</tbody></table></div>"


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""
