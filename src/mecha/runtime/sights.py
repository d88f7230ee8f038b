"""Frames in which what runs saw objects: what takes its place must not be blind to all of them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Result
from mecha.errors import MechaError
from mecha.runtime.variants import FrameDetector

NAN = "it gives NaN"
_KEPT = 3
_PERIOD_S = 0.5
# What is found with at least this score is there; with less it may be noise that the other one rightly leaves out.
_SURE = 0.5
# One frame may be a hard one.
_LEAST = 2
_GREY = 114


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A frame and the names of what is surely on it.

    Attributes:
        frame: (H, W, 3) uint8 BGR, its own copy.
    """

    frame: NDArray[np.uint8]
    labels: frozenset[str]


class Sights:
    """Keeps the last few frames with objects on them; costs a copy of a frame twice a second at most.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, period_s: float = _PERIOD_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._kept: deque[Sight] = deque(maxlen=_KEPT)
        self._due_s = clock()

    def offer(self, frame: NDArray[np.uint8], result: Result) -> None:
        """Show a frame and what was found in it."""
        now_s = self._clock()
        if now_s < self._due_s or result.nan:
            return
        sure = result.detections[result.detections.scores >= _SURE]
        if len(sure):
            self._due_s = now_s + self._period_s
            self._kept.append(Sight(frame.copy(), frozenset(sure.label(index) for index in range(len(sure)))))

    @property
    def frames(self) -> tuple[Sight, ...]:
        """Those kept, oldest first."""
        return tuple(self._kept)


def fault_of(detector: FrameDetector, sights: tuple[Sight, ...]) -> str:
    """Run a detector that takes no frames yet on frames in which another one found objects.

    A frame without anything that the detector has a class for says nothing about it.

    Args:
        sights: none, where nothing has been seen yet: then it runs on a grey frame.

    Returns:
        Why it must not take frames: it fails, gives NaN, or finds nothing in any of them; "" when it may.
    """
    grey = np.full((480, 640, 3), _GREY, np.uint8)
    told = seen = 0
    # What is asked for may be a higher threshold; that is no fault of the model.
    open_eyed = detector.with_thresholds(score_threshold=0.25, iou_threshold=0.45, max_detections=300)
    for sight in sights or (Sight(grey, frozenset()),):
        try:
            result = open_eyed.run(sight.frame)
        except Exception as error:  # noqa: BLE001 - whatever it is, another one can run
            return failure(error)
        if result.nan:
            return NAN
        if sight.labels & set(result.detections.names):
            told += 1
            seen += bool(len(result.detections))
    return f"it finds nothing in {told} frames in which objects were found" if told >= _LEAST and not seen else ""


def failure(error: Exception) -> str:
    """Return what an error says, after its class where that is none of ours."""
    return str(error) if isinstance(error, MechaError) else f"{type(error).__name__}: {error}"
