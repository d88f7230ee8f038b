"""How long FP32 and INT8 take on this device, measured in turns so that whatever slows the device slows them all."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detections import StageTimes
from mecha.detect.detector import Detector
from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import runtime_errors
from mecha.errors import UnsupportedModelError
from mecha.gate.device import describe_device
from mecha.store.manifest import LatencyRecord

if TYPE_CHECKING:
    from mecha.store.published import PublishedModel
    from mecha.store.spec import ModelSpec

Run = Callable[[], StageTimes]

_WARM_UP_RUNS = 2
# What a bench shows is a 1080p camera frame from pixels to boxes.
_BENCH_FRAME = (1920, 1080)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        least, most: rounds; in one round everything is run once.
        time_limit_s: no round begins after it, once `enough_when_slow` rounds are done.
    """

    least: int = 15
    most: int = 120
    time_limit_s: float = 20.0
    enough_when_slow: int = 5


def measure(
    runs: Sequence[Run],
    *,
    effort: Effort,
    settled: Callable[[list[list[StageTimes]]], bool],
    clock: Callable[[], float] = perf_counter,
) -> list[list[StageTimes]]:
    """Run everything in turns and return the times of each, warm-up left out.

    Args:
        runs: what is measured.
        effort: bounds.
        settled: asked after each round from `effort.least` on, with the times so far; True ends the measurement.
        clock: seconds.
    """
    for run in runs:
        for _ in range(_WARM_UP_RUNS):
            run()
    times: list[list[StageTimes]] = [[] for _ in runs]
    started = clock()
    for done in range(1, effort.most + 1):
        for index, run in enumerate(runs):
            times[index].append(run())
        slow = clock() - started > effort.time_limit_s
        if (slow and done >= effort.enough_when_slow) or (done >= effort.least and settled(times)):
            break
    return times


def ratio_bounds(slower_ms: Sequence[float], faster_ms: Sequence[float]) -> tuple[float, float]:
    """Return bounds of the median of slower / faster over rounds, which hold it with about 95 % confidence.

    The bounds are the ratios of rank n/2 -+ 0.98 sqrt(n), the binomial interval of a median in its normal
    approximation: they assume nothing about how the times are spread.
    """
    ratios = sorted(slow / fast for slow, fast in zip(slower_ms, faster_ms, strict=True))
    reach = 0.98 * math.sqrt(len(ratios))
    low = max(0, math.floor(len(ratios) / 2 - reach))
    high = min(len(ratios) - 1, math.ceil(len(ratios) / 2 + reach) - 1)
    return ratios[low], ratios[high]


def exported_run(file: Path, spec: "ModelSpec", frame: NDArray[np.uint8], detector: Detector, *, threads: int) -> Run:
    """Return a run of a model file whole, in a session as any other program makes it; only threads are set.

    Args:
        detector: the frame is padded as it pads it, so that the work is the same.

    Raises:
        UnsupportedModelError: onnxruntime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except runtime_errors() as error:
        raise UnsupportedModelError(f"{file}: onnxruntime cannot load it: {error}") from error
    tensor, _ = Preprocessor(spec.preprocessing, *detector.input_size, stride=detector.stride)(frame)
    feed = {session.get_inputs()[0].name: tensor}

    def run() -> StageTimes:
        started = perf_counter()
        session.run(None, feed)
        return StageTimes(pre_ms=0.0, session_ms=(perf_counter() - started) * 1e3, post_ms=0.0)

    return run


def detector_run(detector: Detector, frame: NDArray[np.uint8]) -> Run:
    """Return a run of a detector as mecha runs it."""
    return lambda: detector.run(frame).times


def session_ms(times: Sequence[StageTimes]) -> list[float]:
    """Return the session's share of each run."""
    return [time.session_ms for time in times]


def compare(
    exported: Run, fp32: Run, int8: Run, *, threads: int, threshold: float, effort: Effort | None = None
) -> LatencyRecord:
    """Measure until it is clear on which side of `threshold` the speedup of INT8 lies, or the effort is spent.

    Returns:
        The times of the round whose ratio of FP32 to INT8 is the median one, and the median of the file run whole.
    """

    def settled(times: list[list[StageTimes]]) -> bool:
        low, high = ratio_bounds(session_ms(times[1]), session_ms(times[2]))
        return low > threshold or high < threshold

    whole, ours, quantized = map(
        session_ms, measure([exported, fp32, int8], effort=effort or Effort(), settled=settled)
    )
    # Of one round, because a busy device slows whole spells: FP32's median may come from a quiet one and INT8's from
    # another. Measured beside two busy processes, 1.5x in truth: 0.84x and more by medians, 1.48x and more by rounds.
    rounds = sorted(zip(ours, quantized, strict=True), key=lambda times: times[0] / times[1])
    fp32_ms, int8_ms = rounds[(len(rounds) - 1) // 2]
    return LatencyRecord(
        threads=threads,
        runs=len(ours),
        fp32_exported_ms=round(median(whole), 3),
        fp32_ms=round(fp32_ms, 3),
        int8_ms=round(int8_ms, 3),
    )


def bench(
    model: "PublishedModel", *, threads: int, frame: NDArray[np.uint8] | None = None, effort: Effort | None = None
) -> dict[str, Any]:
    """Measure a published model; the shape of `models bench --json`.

    The side of INT8 is None while there is no build, the side of FP32 where the model was published in INT8 only.

    Args:
        threads: of each session.
        frame: BGR uint8; a 1080p scene by default.

    Raises:
        UnsupportedModelError: the family cannot be decoded, or onnxruntime cannot load a file.
    """
    from mecha.arena.scene import calibration_scene

    if frame is None:
        frame = calibration_scene(0, 0, *_BENCH_FRAME)
    spec = model.spec
    files = model.by_precision
    detectors = [
        Detector.from_file(file, spec, precision=precision, threads=threads) for precision, file in files.items()
    ]
    exported = exported_run(model.fp32_path, spec, frame, detectors[0], threads=threads)
    runs = [exported, *(detector_run(detector, frame) for detector in detectors)]
    rounds = measure(runs, effort=effort or Effort(least=30), settled=lambda _: True)
    sides = {precision: _side(times, file) for (precision, file), times in zip(files.items(), rounds[1:], strict=True)}
    # model.onnx is the first of them.
    next(iter(sides.values()))["exported_session_ms"] = _spread(session_ms(rounds[0]))
    fp32, int8 = sides.get("FP32"), sides.get("INT8")
    gate = model.manifest.int8.gate
    return {
        "schema": 1,
        "name": model.name,
        "input_size": list(detectors[0].input_size),
        "frame_size": list(detectors[0].size_for(frame)),
        "threads": threads,
        "runs": len(rounds[0]),
        "device": describe_device(),
        "fp32": fp32,
        "int8": int8,
        "speedup": _speedup(fp32, int8) if fp32 and int8 else None,
        "verdict": gate.verdict if gate else None,
    }


def _side(times: Sequence[StageTimes], file: Path) -> dict[str, Any]:
    return {
        "session_ms": _spread(session_ms(times)),
        "end_to_end_ms": _spread([time.total_ms for time in times]),
        "size_bytes": file.stat().st_size,
    }


def _spread(milliseconds: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _speedup(fp32: dict[str, Any], int8: dict[str, Any]) -> dict[str, float]:
    return {
        "session": round(fp32["session_ms"]["p50"] / int8["session_ms"]["p50"], 3),
        "end_to_end": round(fp32["end_to_end_ms"]["p50"] / int8["end_to_end_ms"]["p50"], 3),
    }
