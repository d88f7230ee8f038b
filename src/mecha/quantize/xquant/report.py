"""`<model>.q_report.md`: the table that xquant writes, and below it what it does not."""

from collections.abc import Iterator, Sequence

from mecha.quantize.built import Built
from mecha.quantize.report.markdown import tensor_table
from mecha.quantize.report.rows import LEAST_COSINE, WORST_SNR, TensorRow
from mecha.words import counted


def report_text(rows: Sequence[TensorRow], built: Built, notes: Sequence[str], compared: int) -> str:
    """Return the report; the table comes first, so that what reads xquant's reads this one.

    Args:
        rows: worst first.
        notes: what mecha does differently.
        compared: files that the tensors were compared on.
    """
    lines = [*tensor_table(rows), "", *_words(rows, compared), *_floats(built), *_gains(built)]
    lines += _listed("What fits only in part", built.notes)
    lines += _listed("What became of the configuration", notes)
    return "\n".join(lines) + "\n"


def _words(rows: Sequence[TensorRow], compared: int) -> Iterator[str]:
    marked = sum(row.marked for row in rows)
    yield (
        f"{counted(len(rows), 'tensor')}, worst first, compared with FP32 on {counted(compared, 'file')}. SNR is the "
        "power of the error over the power of the FP32 values: lower is better, 0.1 is 10 dB, 0.001 is 30 dB. SNR over "
        f"{WORST_SNR} or a cosine under {LEAST_COSINE} is much: {marked} here. The error of a tensor holds all that "
        "came before it."
    )


def _floats(built: Built) -> Iterator[str]:
    yield from _listed("Convs in float", [f"`{name}`" for name in built.left_float])


def _gains(built: Built) -> Iterator[str]:
    yield from _listed(
        "What was tried (error where the decode tail begins, before and after)",
        [
            f"{one.technique}: {one.before:.5f}, {one.after:.5f}, {'kept' if one.kept else 'left out'}"
            for one in built.gains
        ],
    )


def _listed(heading: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"## {heading}", "", *(f"- {line}" for line in lines))
