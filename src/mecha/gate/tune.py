"""How a model runs fastest on this device: threads, provider, padding, each measured in turns with the default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from mecha.detect.detector import Detector, Precision
from mecha.detect.session import CPU_PROVIDER, default_threads, other_providers, tuned_device, usable_cores
from mecha.gate.latency import Effort, detector_run, measure, ratio_bounds, session_ms
from mecha.progress import Progress, silent
from mecha.store.manifest import TunedSession, TuneRecord

if TYPE_CHECKING:
    from mecha.detect.detections import StageTimes
    from mecha.store.published import PublishedModel
    from mecha.store.spec import ModelSpec

# What is not this much quicker than the default is not worth a core that others may need, nor trusted.
MARGIN = 1.1
# Small detectors gain little beyond so many threads.
MOST_THREADS = 8
_BUDGET_S = 5.0
_BRIEF_BUDGET_S = 2.0
# What takes a quarter longer in its first round will not turn out quicker.
_HOPELESS = 0.8
_ROUNDS_TO_REFUSE = 3
_ROUNDS_TO_JUDGE = 7
_MOST_ROUNDS = 60
# Height to width of what a camera gives: at its exact rectangle such a frame is 40 % less work than at the square.
_CAMERA = 9 / 16


@dataclass(frozen=True, slots=True)
class Tuning:
    """One precision: what was chosen, and everything that was tried, the default first."""

    precision: Precision
    chosen: TunedSession
    tried: tuple[TunedSession, ...]


@dataclass(frozen=True, slots=True)
class Duel:
    """One candidate and the default, run in turns.

    Attributes:
        default_ms, ms: session times of the default and of the candidate; times at the same place are of one round.
    """

    session: TunedSession
    default_ms: tuple[float, ...]
    ms: tuple[float, ...]

    @property
    def gain(self) -> float:
        """How many times as quick as the default."""
        return median(slow / fast for slow, fast in zip(self.default_ms, self.ms, strict=True))

    @property
    def clear(self) -> bool:
        """The rounds agree that it is the quicker one."""
        return ratio_bounds(self.default_ms, self.ms)[0] > 1


def tune(model: "PublishedModel") -> tuple[Tuning, ...]:
    """Measure a published model in each of its precisions, for about 5 seconds each.

    Raises:
        UnsupportedModelError: the family cannot be decoded, or onnxruntime cannot load a file.
    """
    return _tune_files(model.by_precision, model.spec, _candidates_here(), budget_s=_BUDGET_S, progress=silent)


def tune_briefly(
    files: Mapping[Precision, Path], spec: "ModelSpec", *, progress: Progress = silent
) -> dict[str, TunedSession]:
    """Measure files for about 2 seconds each, loading apart, and return how each runs fastest, by precision.

    It is made for a process of low priority beside other work. There fewer threads look better than they are, so none
    below the default are tried; where nothing else is left to try, nothing is measured, but for a model with dynamic
    axes, which may be quicker at its square.

    Args:
        files: ONNX files by precision.
        spec: describes them all.
        progress: told of stage "tune", in candidates.

    Raises:
        UnsupportedModelError: the family cannot be decoded, or onnxruntime cannot load a file.
    """
    default, *others = _candidates_here()
    tried = [default, *(session for session in others if session.threads >= default.threads)]
    if len(tried) == 1 and not spec.input.dynamic:
        return {}
    tunings = _tune_files(files, spec, tried, budget_s=_BRIEF_BUDGET_S, progress=progress)
    return {tuning.precision: tuning.chosen for tuning in tunings}


def tune_record(sessions: Mapping[str, TunedSession]) -> TuneRecord:
    """Return what the manifest remembers of what was found on this device, by precision."""
    device, onnxruntime = tuned_device()
    return TuneRecord(device=device, onnxruntime=onnxruntime, sessions=dict(sessions))


def candidates(cores: int, default: int, providers: Sequence[str]) -> tuple[TunedSession, ...]:
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


def settled(default_ms: Sequence[float], ms: Sequence[float]) -> bool:
    """Tell whether more rounds would change nothing: the candidate is clearly slower, or on one side of MARGIN."""
    ratios = [slow / fast for slow, fast in zip(default_ms, ms, strict=True)]
    if max(ratios) < (1.0 if len(ratios) >= _ROUNDS_TO_REFUSE else _HOPELESS):
        return True
    if len(ratios) < _ROUNDS_TO_JUDGE:
        return False
    low, high = ratio_bounds(default_ms, ms)
    return low > MARGIN or high < MARGIN


def choose(default: TunedSession, duels: Sequence[Duel]) -> TunedSession:
    """Return what gained most over the default, if its gain is clear and at least MARGIN, else the default.

    The square, which takes no core from anybody, needs no margin: frames run at their rectangle because it is faster.
    """
    winners = [duel for duel in duels if duel.clear and duel.gain >= (1 if duel.session.square else MARGIN)]
    return max(winners, key=lambda duel: duel.gain).session if winners else default


def _candidates_here() -> tuple[TunedSession, ...]:
    return candidates(usable_cores(), default_threads(), other_providers())


def _tune_files(
    files: Mapping[Precision, Path],
    spec: "ModelSpec",
    tried: Sequence[TunedSession],
    *,
    budget_s: float,
    progress: Progress,
) -> tuple[Tuning, ...]:
    steps = max(len(tried) - 1, 1)
    found: list[Tuning] = []
    for precision, file in files.items():
        progress("tune", len(found) * steps, len(files) * steps)
        found.append(_tune(file, spec, precision, tried, budget_s / steps))
    progress("tune", len(files) * steps, len(files) * steps)
    return tuple(found)


def _tune(file: Path, spec: "ModelSpec", precision: Precision, tried: Sequence[TunedSession], limit_s: float) -> Tuning:
    """Measure one file; no more than two sessions are loaded at a time."""
    from mecha.arena.scene import calibration_scene

    default = _loaded(file, spec, precision, tried[0])
    height, width = default.input_size
    if default.stride is not None:
        height = round(width * _CAMERA)
        tried = [*tried, tried[0].model_copy(update={"square": True})]
    frame = calibration_scene(0, 0, width, height)
    own = detector_run(default, frame)
    effort = Effort(least=1, most=_MOST_ROUNDS, time_limit_s=limit_s, enough_when_slow=_ROUNDS_TO_REFUSE)

    def enough(times: "list[list[StageTimes]]") -> bool:
        return settled(session_ms(times[0]), session_ms(times[1]))

    duels: list[Duel] = []
    for session in tried[1:]:
        other = _loaded(file, spec, precision, session)
        if session.provider in {CPU_PROVIDER, other.provider}:
            runs = [own, detector_run(other, frame)]
            times, theirs = (tuple(session_ms(run)) for run in measure(runs, effort=effort, settled=enough))
            duels.append(Duel(session.model_copy(update={"ms": round(median(theirs), 3)}), times, theirs))
    default_ms = [ms for duel in duels for ms in duel.default_ms]
    if not default_ms:
        default_ms = session_ms(measure([own], effort=effort, settled=lambda _: False)[0])
    first = tried[0].model_copy(update={"ms": round(median(default_ms), 3)})
    return Tuning(precision, choose(first, duels), (first, *(duel.session for duel in duels)))


def _loaded(file: Path, spec: "ModelSpec", precision: Precision, session: TunedSession) -> Detector:
    return Detector.from_file(
        file,
        spec,
        precision=precision,
        threads=session.threads,
        provider=session.provider,
        square=session.square,
    )
