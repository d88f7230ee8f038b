"""Detectors that load at once, and fail when they are told to."""

import threading

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detections import Detections, StageTimes
from mecha.detect.detector import Result
from mecha.errors import IntegrityError, NotFoundError
from mecha.runtime.variants import Choice, Variant, Wanted
from tests.detect.blob_detector import RED, scene

FRAME = scene((8, 8, 8, RED))
FP32, INT8 = Wanted("m", use_int8=False), Wanted("m", use_int8=True)
NAMES = ("red", "green")


class Faults:
    """What goes wrong in variants by precision: set while they run."""

    def __init__(self) -> None:
        self.raises: dict[str, Exception] = {}
        self.nan: set[str] = set()
        self.blind: set[str] = set()
        self.ms = {"FP32": 30.0, "INT8": 10.0}
        self.objects = False
        self.names: dict[str, tuple[str, ...]] = {"FP32": NAMES, "INT8": NAMES}


class FakeDetector:
    """Says which variant it is, and notices when two threads use it."""

    def __init__(self, variant: Variant, faults: Faults | None = None, *, score_threshold: float = 0.25) -> None:
        self.variant = variant
        self.faults = faults or Faults()
        self.score_threshold = score_threshold
        self.busy = threading.Lock()

    def warm_up(self) -> None:
        """Nothing has to be laid out."""

    def with_thresholds(self, *, score_threshold: float, iou_threshold: float, max_detections: int) -> "FakeDetector":
        other = FakeDetector(self.variant, self.faults, score_threshold=score_threshold)
        other.busy = self.busy
        return other

    def run(self, frame: NDArray[np.uint8]) -> Result:
        assert self.busy.acquire(blocking=False), "two threads in one detector"
        try:
            precision, faults = self.variant.precision, self.faults
            if precision in faults.raises:
                raise faults.raises[precision]
            count = int(faults.objects and precision not in faults.blind)
            found = Detections(
                np.zeros((count, 4), np.float32),
                np.full(count, 0.9, np.float32),
                np.zeros(count, np.int32),
                names=faults.names[precision],
            )
            times = StageTimes(0.0, faults.ms[precision], 0.0)
            return Result(found, times, precision, self.variant.file, precision in faults.nan)
        finally:
            self.busy.release()


class FakeLoader:
    """Loads at once, or when it is let."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.loads: list[Variant] = []
        self.may_load = threading.Event()
        self.may_load.set()
        self.missing: set[str] = set()
        self.unloadable: set[str] = set()
        self.int8_built = True
        self.stamp = 0
        self.used_mb = 100.0

    def choose(self, wanted: Wanted) -> Choice:
        if wanted.model in self.missing:
            raise NotFoundError(f'model "{wanted.model}" is not pulled', hint=f"`mecha models pull {wanted.model}`")
        fp32 = self.variant(wanted, "FP32")
        if wanted.use_int8 is False:
            return Choice((fp32,))
        if not self.int8_built:
            return Choice((fp32,), "INT8 of m is not there; running FP32.")
        return Choice((self.variant(wanted, "INT8"), fp32), remedy="`mecha models quantize m` makes INT8.")

    def variant(self, wanted: Wanted, precision: str) -> Variant:
        file = f"{wanted.model}-{precision}"
        return Variant(wanted.model, precision, file, (self.stamp,), wanted.input_size, wanted.threads)  # type: ignore[arg-type]

    def load(self, variant: Variant) -> FakeDetector:
        self.loads.append(variant)
        assert self.may_load.wait(10)
        if variant.precision in self.unloadable:
            raise IntegrityError(f"{variant.file}: got no ONNX model")
        return FakeDetector(variant, self.faults)

    def memory_mb(self) -> float:
        return self.used_mb
