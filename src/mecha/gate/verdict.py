"""The verdict on an INT8 file: does it load, is it right, is it faster on this device."""

import math
from collections.abc import Iterable, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mecha.detect.decode.candidates import DecodeTarget
from mecha.detect.decode.registry import planner_of
from mecha.detect.detector import Detector
from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import Session
from mecha.errors import MechaError, QuantizationError
from mecha.gate.agreement import Comparison, FrameOutputs
from mecha.gate.alignment import aligned
from mecha.gate.ceiling import score_ceiling
from mecha.gate.latency import Effort, compare, detector_run, exported_run
from mecha.graph.cut import cut_at
from mecha.graph.inspect import TensorInfo
from mecha.graph.prepare import fix_input_size, load_model
from mecha.progress import Progress, silent
from mecha.quantize.fusion import float_convs
from mecha.store.manifest import AgreementRecord, GateRecord, LatencyRecord
from mecha.store.spec import ModelSpec

# INT8 that is not at least this much quicker is not worth its error, nor the noise of the measurement.
FASTER = 1.05

# The limits below stand between these, measured on 12 built-in scenes, 16 photos and 8 video frames (yolov8n, yolo11n):
#                                        loss of mAP      F1      overlap   box IoU
#   static, four ways of calibrating       0 to 4 %   0.72-0.94  0.57-0.95  0.93-0.98
#   dynamic                                    4 %    0.73-0.91  0.34-0.93  0.93-0.98
#   weights with 2 % noise               20 to 29 %   0.00-0.70  0.07-0.71  0.76-0.91
#   weights with 4 % noise                    90 %    0.00-0.11  0.02-0.31  0.56-0.81
#   decode tail quantized, scores all 0      100 %    0.00       0.00       0.81-0.89
# F1 falls about as fast as mAP, and the best builds reach 0.86 at their worst threshold on frames with many objects.
F1_AT_NO_LOSS = 0.87
LEAST_OVERLAP = 0.25
LEAST_BOX_IOU = 0.7
# A score of 0.7 must be within reach, with room. Measured: 1.0 where the last convs are float, 0.93 and 0.95 where they
# are INT8 and calibrated on photos, 0.50 and 0.61 calibrated on frames without objects, 0.0 for the broken file.
LEAST_CEILING = 0.8
# Whole or cut before its tail, a file with a float tail gives the same on the same input: 1.00, measured on ten photos.
LEAST_SAMENESS = 0.9

# 95 % of a normal distribution lie within so many standard errors.
_STANDARD_ERRORS = 1.96


class Frames(Sized, Iterable[NDArray[np.uint8]], Protocol):
    """Frames to compare on, BGR uint8; a `FrameSet` is one."""


class _UnusableError(Exception):
    """What ends the gate early: the verdict's reason."""


def run_gate(
    fp32: Path,
    int8: Path,
    spec: ModelSpec,
    frames: Frames,
    *,
    threads: int,
    max_accuracy_drop: float,
    progress: Progress = silent,
    effort: Effort | None = None,
) -> GateRecord:
    """Measure an INT8 file against the FP32 file it was made from. A bad INT8 file is a verdict, never an error.

    Args:
        fp32: the FP32 file.
        int8: a file that should have the same inputs and outputs.
        spec: describes both.
        frames: at least one; not those of the calibration.
        threads: of every session.
        max_accuracy_drop: relative loss of accuracy that is accepted, 0.01 for 1 %.
        progress: told of stage "gate", in frames.
        effort: how long latency is measured; what `Effort` says by default.

    Raises:
        MechaError: the FP32 file cannot be loaded or decoded, or gives what is no number.
    """
    reference = Detector.from_file(fp32, spec, precision="FP32", threads=threads)
    first = next(iter(frames))
    _require_finite(reference, first)  # what FP32 itself cannot do is no fault of INT8
    try:
        candidate = Detector.from_file(int8, spec, precision="INT8", threads=threads)
        if candidate.stride != reference.stride:
            # Anchors are compared one by one, so both must run at one size: the one that each of them takes.
            reference = Detector.from_file(fp32, spec, precision="FP32", threads=threads, square=True)
            candidate = Detector.from_file(int8, spec, precision="INT8", threads=threads, square=True)
        whole = Session(int8, threads=threads)
        _require_same_tensors(Session(fp32, threads=threads), whole)
        compared = _compared(reference, candidate, frames, progress)
        left_float = float_convs(int8.read_bytes())
        agreement = compared.record()
        fault = (
            _disagreement(agreement, compared, max_accuracy_drop)
            or _ceiling_fault(int8, spec, first, threads)
            or _tail_fault(int8, candidate, whole, spec, first)
        )
    except (MechaError, _UnusableError) as error:
        return GateRecord(verdict="unloadable", reason=str(error))
    if fault:
        return GateRecord(verdict="wrong", reason=fault, agreement=agreement, float_convs=left_float)
    latency = compare(
        exported_run(fp32, spec, first, reference, threads=threads),
        detector_run(reference, first),
        detector_run(candidate, first),
        threads=threads,
        threshold=FASTER,
        effort=effort,
    )
    return _measured(latency, agreement, left_float)


def _require_finite(fp32: Detector, frame: NDArray[np.uint8]) -> None:
    if not FrameOutputs(*fp32.examine(frame)).finite:
        raise QuantizationError(
            "the outputs of FP32 itself hold NaN or infinity; expected numbers",
            hint="The model overflows on this frame; check its preprocessing preset.",
        )


def _measured(latency: LatencyRecord, agreement: AgreementRecord, left_float: tuple[str, ...]) -> GateRecord:
    speedup = latency.fp32_ms / latency.int8_ms
    faster = speedup >= FASTER
    plural = "s" if latency.threads > 1 else ""
    worth = "" if faster else f"; at less than {FASTER}x it is not worth having"
    return GateRecord(
        verdict="faster" if faster else "slower",
        reason=f"INT8 takes {latency.int8_ms:.1f} ms and FP32 {latency.fp32_ms:.1f} ms on {latency.threads} "
        f"thread{plural}: {speedup:.2f}x{worth}",
        speedup=round(speedup, 3),
        agreement=agreement,
        latency=latency,
        float_convs=left_float,
    )


def _require_same_tensors(fp32: Session, int8: Session) -> None:
    """End the gate unless names, types and known sizes of inputs and outputs are those of FP32."""
    for kind, ours, theirs in (("inputs", fp32.inputs, int8.inputs), ("outputs", fp32.outputs, int8.outputs)):
        if len(ours) != len(theirs) or not all(map(_same, ours, theirs)):
            got, expected = (", ".join(map(str, tensors)) for tensors in (theirs, ours))
            raise _UnusableError(f"{kind}: got {got}; expected those of FP32: {expected}")


def _same(ours: TensorInfo, theirs: TensorInfo) -> bool:
    if (ours.name, ours.dtype, len(ours.shape)) != (theirs.name, theirs.dtype, len(theirs.shape)):
        return False
    sizes = zip(ours.shape, theirs.shape, strict=True)
    return all(a == b for a, b in sizes if isinstance(a, int) and isinstance(b, int))


def _compared(reference: Detector, candidate: Detector, frames: Frames, progress: Progress) -> Comparison:
    compared = Comparison()
    total = len(frames)
    with ThreadPoolExecutor(1) as beside:
        for number, frame in enumerate(frames, start=1):
            ours_to_come = beside.submit(reference.examine, frame)
            theirs = FrameOutputs(*candidate.examine(frame))
            if not theirs.finite:
                raise _UnusableError(f"frame {number} of {total}: the outputs hold NaN or infinity; expected numbers")
            ours = FrameOutputs(*ours_to_come.result())
            compared.add(ours, theirs if reference.overlapping else aligned(ours, theirs))
            progress("gate", number, total)
    return compared


def _disagreement(agreement: AgreementRecord, compared: Comparison, max_accuracy_drop: float) -> str:
    """Say in what INT8 is not FP32; empty when it is near enough.

    An F1 counts as too low when even its upper 95 % bound is, because it may rest on few detections.
    """
    limit = F1_AT_NO_LOSS - max_accuracy_drop
    for level, f1 in agreement.f1.items():
        count = compared.support(level)
        if f1 + _STANDARD_ERRORS * math.sqrt(f1 * (1 - f1) / count) < limit:
            return (
                f"at score {level} INT8 finds what FP32 finds with F1 {f1:.2f}, over {count} detections; "
                f"expected {limit:.2f} or more"
            )
    if compared.overlap < LEAST_OVERLAP:
        return f"the scores of INT8 and FP32 overlap by {compared.overlap:.2f}; expected {LEAST_OVERLAP} or more"
    if agreement.box_iou < LEAST_BOX_IOU:
        return f"the boxes of INT8 and FP32 overlap by {agreement.box_iou:.2f}; expected {LEAST_BOX_IOU} or more"
    return ""


def _ceiling_fault(int8: Path, spec: ModelSpec, frame: NDArray[np.uint8], threads: int) -> str:
    ceiling = score_ceiling(int8, spec, frame, threads=threads)
    if ceiling is None or ceiling >= LEAST_CEILING:
        return ""
    return f"no score can pass {ceiling:.2f}, whatever is on the frame; expected {LEAST_CEILING} or more"


def _tail_fault(int8: Path, candidate: Detector, whole: Session, spec: ModelSpec, frame: NDArray[np.uint8]) -> str:
    """Say whether a program that runs the file whole gets something else than mecha, which cuts it before its tail.

    Both get the same numbers here. mecha itself computes them from pixels inside the session, which differ in the
    eighth decimal: enough to move a few integers to their neighbours, and then scores by as much as INT8's own error.
    """
    if not candidate.cut:
        return ""
    tensor, _ = Preprocessor(spec.preprocessing, *candidate.input_size, stride=candidate.stride)(frame)
    height, width = tensor.shape[2:]
    target = DecodeTarget(height, width, len(spec.classes), where=spec.name)
    planner = planner_of(spec.family, where=spec.name)
    model = fix_input_size(load_model(int8), height, width)
    plan = planner(model, target)
    cut = Session(cut_at(model, plan.tensors).SerializeToString(), threads=whole.threads, where=str(int8))
    found = candidate(frame)
    compared = Comparison()
    compared.add(
        FrameOutputs(found, *plan.decoder.raw(cut.run(tensor))),
        FrameOutputs(found, *planner(None, target).decoder.raw(whole.run(tensor))),
    )
    sameness = min(compared.overlap, compared.record().box_iou)
    if sameness >= LEAST_SAMENESS:
        return ""
    return (
        f"run whole, as other programs run it, the file gives something else than cut before its decode tail: "
        f"they overlap by {sameness:.2f}; expected {LEAST_SAMENESS} or more"
    )
