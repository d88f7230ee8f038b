"""The hot-swapped detector: what runs is changed between two frames, and what is new is loaded beside the frames."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Result
from mecha.errors import MechaError
from mecha.runtime.events import Swap
from mecha.runtime.variants import FrameDetector, Loader, Variant, Wanted, labels
from mecha.runtime.warm import WarmDetectors

_BEFORE_FRAMES = 30
_AFTER_FRAMES = 5
_LOOK_PERIOD_S = 2.0


@dataclass(slots=True)
class _Running:
    """A detector that takes frames."""

    variant: Variant
    detector: FrameDetector
    times_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_BEFORE_FRAMES))

    def median_ms(self) -> float | None:
        return median(self.times_ms) if self.times_ms else None


class DetectorSlot:
    """Runs what is wanted, and goes on with what runs while something else is being loaded.

    `start`, `run` and `close` belong to one thread, the one of the frames; `want` may come from any.

    Args:
        loader: finds and loads models.
        log: where loading and faults are told.
        on_swap: called in the thread of the frames, some frames after a swap, with the medians before and after.
        look_period_s: how often the model on disk is looked at: INT8 may be built while FP32 runs.
    """

    def __init__(
        self,
        loader: Loader,
        *,
        log: logging.Logger,
        on_swap: Callable[[Swap], None],
        look_period_s: float = _LOOK_PERIOD_S,
    ) -> None:
        self._warm = WarmDetectors(loader, log)
        self._on_swap = on_swap
        self._look_period_s = look_period_s
        self._changed = threading.Condition()
        self._wanted = Wanted("")
        self._wishes = 0
        self._served = 0
        self._following: _Running | None = None
        self._closed = False
        self._running: _Running | None = None
        self._swap: Swap | None = None
        self._thread = threading.Thread(target=self._serve, name="detector-slot", daemon=True)

    def start(self, wanted: Wanted) -> None:
        """Load what is wanted, and begin to listen to `want`.

        Raises:
            MechaError: there is no such model, or nothing of it can be loaded.
        """
        self._wanted = wanted
        self._running = _Running(*self._warm.prepare(wanted))
        self._thread.start()

    def want(self, wanted: Wanted) -> None:
        """Run something else as soon as it is loaded. Of several wishes the last one counts."""
        with self._changed:
            self._wanted = wanted
            self._wishes += 1
            self._changed.notify()

    def run(self, frame: NDArray[np.uint8]) -> Result:
        """Detect in one frame, with the newest that is loaded; see `Detector.run`."""
        running = self._swapped()
        result = running.detector.run(frame)
        running.times_ms.append(result.times.total_ms)
        if len(running.times_ms) >= _AFTER_FRAMES:
            self._report(running)
        return result

    @property
    def model(self) -> str:
        """Name of the model that made the last result."""
        return self._started().variant.model

    def close(self) -> None:
        """Stop loading. A load that is under way is waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        if self._running is not None:
            self._report(self._running)

    def _started(self) -> _Running:
        if self._running is None:
            raise RuntimeError("a slot runs after start")
        return self._running

    def _swapped(self) -> _Running:
        """Return what runs from this frame on."""
        running = self._started()
        with self._changed:
            following, self._following = self._following, None
        if following is None:
            return running
        if following.variant == running.variant:
            # Other thresholds: the same session, and nothing to compare.
            following.times_ms = running.times_ms
        else:
            self._report(running)
            was, now = labels(running.variant, following.variant)
            self._swap = Swap(was, now, running.median_ms(), None)
        self._running = following
        return following

    def _report(self, running: _Running) -> None:
        """Tell of the last swap, if that was not done yet, with the frames there are."""
        swap, self._swap = self._swap, None
        if swap is not None:
            self._on_swap(Swap(swap.was, swap.now, swap.before_ms, running.median_ms()))

    # The thread that loads

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=self._look_period_s)
                if self._closed:
                    return
                wished, wish, wanted = self._is_due(), self._wishes, self._wanted
                self._served = wish
            if wished or self._warm.other_choice(wanted):
                self._serve_one(wanted, wish)

    def _is_due(self) -> bool:
        return self._closed or self._wishes != self._served

    def _serve_one(self, wanted: Wanted, wish: int) -> None:
        try:
            prepared = _Running(*self._warm.prepare(wanted))
        except MechaError as error:
            text = f"{error}; what runs stays"
            self._warm.tell(logging.ERROR, f"{text}\n{error.hint}" if error.hint else text)
            return
        with self._changed:
            current = wish == self._wishes
            if current:
                self._following = prepared
        self._warm.keep(self._started().variant, prepared.variant if current else None, wanted.memory_limit_mb)
