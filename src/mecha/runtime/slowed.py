"""A detector whose session takes its time for as long as `mecha dev --fault slow-inference` says."""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Result
from mecha.runtime.injection import Injection, of_this_process
from mecha.runtime.variants import FrameDetector

SLOWED_S = 0.25
"""What is added to each run of the session."""


class SlowedDetector:
    """Runs another detector, and sleeps in the time of its session while it is slow."""

    def __init__(self, detector: FrameDetector, injection: Injection) -> None:
        self._detector = detector
        self._injection = injection

    def run(self, frame: NDArray[np.uint8]) -> Result:
        """Detect in one frame; see `FrameDetector.run`."""
        result = self._detector.run(frame)
        if not self._injection.lasts("slow-inference"):
            return result
        started = time.perf_counter()
        time.sleep(SLOWED_S)
        slept_ms = (time.perf_counter() - started) * 1e3
        return replace(result, times=replace(result.times, session_ms=result.times.session_ms + slept_ms))

    def warm_up(self) -> None:
        """Run until memory is laid out."""
        self._detector.warm_up()

    def with_thresholds(self, *, score_threshold: float, iou_threshold: float, max_detections: int) -> "SlowedDetector":
        """Return a detector with other thresholds that shares the session, and is as slow."""
        other = self._detector.with_thresholds(
            score_threshold=score_threshold, iou_threshold=iou_threshold, max_detections=max_detections
        )
        return SlowedDetector(other, self._injection)


def as_fast_as_asked(detector: FrameDetector) -> FrameDetector:
    """Return a detector as the faults of this process want it: itself where none of them slows it."""
    injection = of_this_process()
    return SlowedDetector(detector, injection) if injection.planned("slow-inference") else detector
