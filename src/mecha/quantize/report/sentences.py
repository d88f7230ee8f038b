"""What a report says in words, the same in every form it is written in."""

from collections.abc import Iterator

from mecha.quantize.report.rows import LEAST_COSINE, WORST_SNR, Facts, FloatConv, Report
from mecha.store.manifest import AccuracyRecord, AgreementRecord, GateRecord

PROVISIONAL = (
    "Provisional: calibrated on built-in scenes only. Photos in the catalog, or frames that the device sees, "
    "make it better."
)
LEGEND = (
    "SNR is the power of the error over the power of the FP32 values, so lower is better: 0.1 is 10 dB, 0.001 is "
    f"30 dB. A tensor is marked where SNR is over {WORST_SNR} or the cosine under {LEAST_COSINE}. The error of a "
    "tensor holds all that came before it. A Conv and its activation are compared as one. Q is the range in INT8, F "
    "the range in FP32."
)
BLOCKS = (
    "The fastest of several runs of each node; both files run whole and in turns. What else the device does slows FP32 "
    "more than INT8, so take the speed from the summary. mecha computes the decode tail itself, faster."
)
ERROR = (
    "Error of scores and boxes where FP32 or INT8 sees objects, against the power of the scores and the sides of the "
    "boxes; of a model that mecha cannot decode, noise over signal at its decode tail. Lower is better."
)
CURVE = "That error against the milliseconds a frame that leaving Convs float costs, the first build first."
_PLACES = {
    "tail": "part of the decode tail: boxes in pixels and scores share one tensor, and no 8-bit scale serves both",
    "last": "last Conv of a branch: its range depends on objects being in the calibration frames",
    "first": "first Conv: so few channels make a slow integer Conv",
}
_FOR_ACCURACY = "INT8 of it costs more accuracy than it saves time"
_BY_RUNTIME = "onnxruntime has no integer form of it here"
_OTHERWISE = "named by an option of the catalog entry, or not of a kind that this method makes integer"


def float_reason(conv: FloatConv, facts: Facts) -> str:
    """Return why a Conv is not in integers."""
    record = facts.record
    if conv.place in _PLACES:
        return _PLACES[conv.place]
    if conv.name in {name for point in record.curve for name in point.left_float}:
        return _FOR_ACCURACY
    if record.gate is not None and conv.name in record.gate.float_convs:
        return _BY_RUNTIME
    return _FOR_ACCURACY if "worst blocks" in record.method else _OTHERWISE


def chosen_point(facts: Facts) -> int:
    """Return the position of the point of the curve that the build stands at."""
    left: set[str] = set(facts.record.left_float)
    chosen = 0
    for number, point in enumerate(facts.record.curve):
        if not left.issuperset(point.left_float):
            break
        chosen = number
    return chosen


def summary(report: Report | None, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield what matters most: a word and its figure."""
    record = facts.record
    asked = f" (asked for: {record.requested_method})" if record.requested_method not in ("", record.method) else ""
    yield "Method", record.method + asked
    if record.gate is not None:
        yield from _gate(record.gate)
    if record.accuracy is not None:
        yield from _accuracy(record.accuracy)
    size = f"{megabytes(facts.int8_bytes)} of {megabytes(facts.fp32_bytes)}, {facts.size_ratio:.2f} of FP32"
    yield "Size", size
    if report is not None:
        marked = f"{report.marked} of {counted(len(report.tensors), 'tensor')} marked"
        yield "Tensors", f"{marked}, compared on {counted(report.frames, 'frame')}"


def _accuracy(found: AccuracyRecord) -> Iterator[tuple[str, str]]:
    of = f" of {found.data}" if found.data else ""
    photos = f"on {counted(found.images, 'labelled photo')}{of}"
    yield "mAP50-95", f"INT8 {found.int8_map:.4f}, FP32 {found.fp32_map:.4f} {photos}"
    if found.int8_map50 is not None and found.fp32_map50 is not None:
        yield "mAP50", f"INT8 {found.int8_map50:.4f}, FP32 {found.fp32_map50:.4f} {photos}"


def _gate(gate: GateRecord) -> Iterator[tuple[str, str]]:
    yield "Verdict", f"{gate.verdict}: {gate.reason}"
    if (times := gate.latency) is not None:
        how = f"{counted(times.threads, 'thread')}, the middle of {counted(times.runs, 'round')}"
        yield (
            "Latency",
            f"INT8 {times.int8_ms:.1f} ms, FP32 {times.fp32_ms:.1f} ms, model.onnx run whole "
            f"{times.fp32_exported_ms:.1f} ms ({how})",
        )
    if (memory := gate.memory) is not None:
        yield "Memory", f"INT8 {memory.int8_mb:.0f} MB, FP32 {memory.fp32_mb:.0f} MB, each loaded and run on its own"
    if gate.agreement is not None:
        yield "Agreement", f"{gate.agreement.agreement:.3f} on {counted(gate.agreement.frames, 'frame')}"


def agreement(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each score threshold: threshold, F1, detections of FP32."""
    found = facts.record.gate.agreement if facts.record.gate else None
    for level, f1 in (found.f1 if found else {}).items():
        yield level, f"{f1:.3f}", str(found.detections.get(level, 0) if found else 0)


def strongest(found: AgreementRecord) -> str:
    """Return how near the strongest scores and boxes are, in one sentence."""
    return (
        f"Mean difference of the strongest scores {found.score_error:.4f}, mean IoU of their boxes {found.box_iou:.3f}."
    )


def making(report: Report | None, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield how and where the build was made."""
    record = facts.record
    if record.calibration is not None:
        kind = ", provisional" if record.calibration.provisional else ""
        yield "Calibration", f"{record.calibration.description} ({counted(record.calibration.frames, 'frame')}{kind})"
    if report is not None:
        yield "Compared on", f"{counted(report.frames, 'frame')} of the gate's: {report.frames_description}"
    size = facts.spec.input
    yield "Input", f"{size.width}x{size.height}{', dynamic' if size.dynamic else ''}, {facts.spec.preprocessing}"
    source = facts.spec.source
    yield "Source", " ".join(part for part in (f"{source.repo}/{source.filename}", source.revision) if part)
    yield from ((f"Device {key}", str(value)) for key, value in facts.device.items())
    yield from ((tool, version) for tool, version in facts.tools.items())
    yield "Measured", facts.created


def notes(report: Report | None, facts: Facts) -> Iterator[str]:
    """Yield what is not as it should be."""
    if facts.fault:
        yield f"Tensors, blocks and frames could not be measured: {facts.fault}"
    if facts.record.calibration is not None and facts.record.calibration.provisional:
        yield PROVISIONAL
    yield from facts.record.notes
    if report is not None and report.skipped:
        yield f"Not compared, because they hold values that are not finite: {', '.join(report.skipped)}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: "1 frame", "3 frames"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def megabytes(count: int) -> str:
    """Return a size in decimal megabytes."""
    return f"{count / 1e6:.1f} MB"


def gain(fp32_ms: float, int8_ms: float) -> str:
    """Return by how much INT8 is quicker, "-" where there is nothing to divide."""
    return f"{fp32_ms / int8_ms:.1f}x" if int8_ms > 0 and fp32_ms > 0 else "-"
