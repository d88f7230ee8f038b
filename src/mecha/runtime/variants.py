"""What a detector node can run, and what finds and loads it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Precision, Result


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a node's config asks for.

    Attributes:
        model: name of a pulled model, or a path from the project's root.
        use_int8: "auto" runs INT8 where the gate found it faster.
        input_size: pixels, for models that take more than one; None for the model's own.
        threads: of the session; None for the default.
        memory_limit_mb: resident memory of the process, 10^6 bytes, above which only what runs stays loaded.
        latency_budget_ms: what is swapped in and takes longer gives way to what ran before; None is any time.
    """

    model: str
    use_int8: bool | Literal["auto"] = "auto"
    input_size: int | None = None
    threads: int | None = None
    score_threshold: float = 0.25
    iou_threshold: float = 0.45
    max_detections: int = 300
    memory_limit_mb: float | None = None
    latency_budget_ms: float | None = None

    def asks_for_the_same(self, other: "Wanted") -> bool:
        """Tell whether both ask for the same session, held to the same time."""
        mine, theirs = (
            (one.model, one.use_int8, one.input_size, one.threads, one.latency_budget_ms) for one in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, slots=True)
class Variant:
    """One loadable thing: two variants that are equal are the same session.

    Attributes:
        model: name for people and messages.
        file: path of the ONNX file, as shown.
        stamp: changes when the file is replaced.
    """

    model: str
    precision: Precision
    file: str
    stamp: tuple[int, ...]
    input_size: int | None
    threads: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run, best first.

    Attributes:
        variants: at least one; a later one runs where those before it cannot be loaded.
        notice: what people should know about the choice, empty when it is what was asked for.
        remedy: how to get what cannot be loaded.
    """

    variants: tuple[Variant, ...]
    notice: str = ""
    remedy: str = ""


class FrameDetector(Protocol):
    """What a slot needs of `mecha.detect.detector.Detector`."""

    def run(self, frame: NDArray[np.uint8]) -> Result:
        """Detect in one frame."""
        ...

    def warm_up(self) -> None:
        """Run until memory is laid out."""
        ...

    def with_thresholds(self, *, score_threshold: float, iou_threshold: float, max_detections: int) -> "FrameDetector":
        """Return a detector with other thresholds that shares the session."""
        ...


class Loader(Protocol):
    """Finds and loads models: `mecha.runtime.loader.ModelLoader`."""

    def choose(self, wanted: Wanted) -> Choice:
        """Return what to run.

        Raises:
            MechaError: there is no such model.
        """
        ...

    def load(self, variant: Variant) -> FrameDetector:
        """Load one file, with any thresholds.

        Raises:
            MechaError: it cannot be loaded.
        """
        ...

    def memory_mb(self) -> float:
        """Return the resident memory of this process, 10^6 bytes."""
        ...


def labels(was: Variant, now: Variant) -> tuple[str, str]:
    """Return two variants in the words in which they differ: precision always, model and size where they do."""
    first, second = [was.precision.upper()], [now.precision.upper()]
    if was.model != now.model:
        first, second = [was.model, *first], [now.model, *second]
    if was.input_size != now.input_size:
        first, second = [*first, _sized(was)], [*second, _sized(now)]
    return " ".join(first), " ".join(second)


def _sized(variant: Variant) -> str:
    return "at its own size" if variant.input_size is None else f"at {variant.input_size}"
