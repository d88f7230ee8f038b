"""How a model runs fastest on this device: threads and provider, measured in turns."""

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from mecha.detect.detector import Detector, Precision
from mecha.detect.session import CPU_PROVIDER, default_threads, other_providers, tuned_device, usable_cores
from mecha.gate.latency import Effort, detector_run, measure, session_ms
from mecha.store.manifest import TunedSession, TuneRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mecha.store.models import PublishedModel
    from mecha.store.spec import ModelSpec

# What is not this much quicker than the default is not worth a core that others may need, nor trusted.
MARGIN = 1.1
# Small detectors gain little beyond so many threads.
MOST_THREADS = 8
_EFFORT = Effort(least=15, most=15, time_limit_s=5.0, enough_when_slow=3)


@dataclass(frozen=True, slots=True)
class Tuning:
    """One precision: what was chosen, and everything that was tried, the default first."""

    precision: Precision
    chosen: TunedSession
    tried: tuple[TunedSession, ...]


def tune(model: "PublishedModel") -> tuple[Tuning, ...]:
    """Measure a published model in each of its precisions, for about 5 seconds each.

    Raises:
        UnsupportedModelError: the family cannot be decoded, or onnxruntime cannot load a file.
    """
    tuned = [_tune(model.fp32_path, model.spec, "FP32")]
    if model.int8_path is not None:
        tuned.append(_tune(model.int8_path, model.spec, "INT8"))
    return tuple(tuned)


def tune_record(tunings: "Sequence[Tuning]") -> TuneRecord:
    """Return what the manifest remembers."""
    device, onnxruntime = tuned_device()
    sessions: dict[str, TunedSession] = {tuning.precision: tuning.chosen for tuning in tunings}
    return TuneRecord(device=device, onnxruntime=onnxruntime, sessions=sessions)


def candidates(cores: int, default: int, providers: "Sequence[str]") -> tuple[TunedSession, ...]:
    """Return what is tried: the default, other numbers of threads on the CPU, other providers.

    Args:
        cores: physical ones that may be used.
        default: threads where nobody says.
        providers: besides the CPU's.
    """
    counts = [count for count in (1, 2, 4, MOST_THREADS, min(cores, MOST_THREADS)) if count <= cores]
    threads = dict.fromkeys([default, *sorted(counts)])
    return (
        *(TunedSession(threads=count) for count in threads),
        *(TunedSession(threads=default, provider=provider) for provider in providers),
    )


def choose(tried: "Sequence[TunedSession]") -> TunedSession:
    """Return the fastest, if it beats the first by MARGIN, else the first. All have been measured."""
    first, best = tried[0], min(tried, key=lambda session: session.ms or 0.0)
    return best if (first.ms or 0.0) >= MARGIN * (best.ms or 0.0) else first


def _tune(file: "Path", spec: "ModelSpec", precision: Precision) -> Tuning:
    from mecha.arena.scene import calibration_scene

    loaded: list[tuple[TunedSession, Detector]] = []
    for session in candidates(usable_cores(), default_threads(), other_providers()):
        detector = Detector.from_file(
            file, spec, precision=precision, threads=session.threads, provider=session.provider
        )
        if session.provider in {CPU_PROVIDER, detector.provider}:
            loaded.append((session, detector))
    height, width = loaded[0][1].input_size
    frame = calibration_scene(0, 0, width, height)
    rounds = measure([detector_run(detector, frame) for _, detector in loaded], effort=_EFFORT, settled=lambda _: True)
    tried = tuple(
        session.model_copy(update={"ms": round(median(session_ms(times)), 3)})
        for (session, _), times in zip(loaded, rounds, strict=True)
    )
    return Tuning(precision, choose(tried), tried)
