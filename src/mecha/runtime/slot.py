"""The hot-swapped detector: what runs is changed between two frames, and what is new is loaded beside the frames.

What is new is tried out before it takes frames, and watched while it takes its first ones. Where it fails, gives NaN,
is blind or too slow, what ran before runs again, with the same frame, and the next best of what is wanted is loaded.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Result
from mecha.errors import MechaError
from mecha.runtime.events import Swap
from mecha.runtime.probation import Probation
from mecha.runtime.sights import NAN, Sights, failure, fault_of
from mecha.runtime.variants import FrameDetector, Loader, Variant, Wanted, labels
from mecha.runtime.warm import WarmDetectors

_BEFORE_FRAMES = 30
_AFTER_FRAMES = 5
_LOOK_PERIOD_S = 2.0


@dataclass(slots=True)
class _Running:
    """A detector that takes frames.

    Attributes:
        probation: None for what ran from the start, or runs again.
    """

    variant: Variant
    detector: FrameDetector
    times_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_BEFORE_FRAMES))
    probation: Probation | None = None

    def median_ms(self) -> float | None:
        return median(self.times_ms) if self.times_ms else None

    @property
    def proven(self) -> bool:
        return self.probation is None or self.probation.over


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
        self._warm = WarmDetectors(loader, log, self._fault_of)
        self._on_swap = on_swap
        self._look_period_s = look_period_s
        self._changed = threading.Condition()
        self._wanted = Wanted("")
        self._wishes = 0
        self._served = 0
        self._answered = 0
        self._following: _Running | None = None
        self._refused: dict[Variant, str] = {}
        self._closed = False
        self._running: _Running | None = None
        self._last_good: _Running | None = None
        # What fails while there is nothing else that runs.
        self._alone: Variant | None = None
        self._swap: Swap | None = None
        self._model = ""
        self._sights = Sights()
        self._tried: dict[Variant, bool] = {}
        # What is tried out takes no frame meanwhile.
        self._trying = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="detector-slot", daemon=True)

    def start(self, wanted: Wanted) -> None:
        """Load what is wanted, and begin to listen to `want`.

        Raises:
            MechaError: there is no such model, or nothing of it can be loaded.
        """
        self._wanted = wanted
        self._running = _Running(*self._warm.prepare(wanted, {}))
        self._thread.start()

    def want(self, wanted: Wanted) -> None:
        """Run something else as soon as it is loaded. Of several wishes the last one counts.

        What had to give way is tried again once something else was asked for.
        """
        with self._changed:
            if not wanted.asks_for_the_same(self._wanted):
                self._refused = {}
            self._wanted = wanted
            self._wishes += 1
            self._changed.notify_all()

    def run(self, frame: NDArray[np.uint8]) -> Result:
        """Detect in one frame, with the newest that is loaded and works; see `Detector.run`."""
        running = self._swapped()
        try:
            result = running.detector.run(frame)
        except Exception as error:
            instead = self._run_instead(running, frame, failure(error))
            if instead is None:
                raise
            return instead
        if result.nan:
            # A box of NaN is worse than none: not even JSON can say it.
            nothing = replace(result, detections=result.detections[:0])
            return self._run_instead(running, frame, NAN) or nothing
        self._note(running, frame, result)
        return result

    @property
    def model(self) -> str:
        """Name of the model that made the last result."""
        return self._model or self._started().variant.model

    def close(self) -> None:
        """Stop loading. A load that is under way is waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
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
            self._running = following or running
        if following is None:
            return running
        if following.variant == running.variant:
            # Other thresholds: the same session, and nothing to compare.
            following.times_ms = running.times_ms
            following.probation = running.probation
        else:
            self._tell_later(running, following)
            budget_ms, before_ms = self._wanted.latency_budget_ms, running.median_ms()
            following.probation = Probation(budget_ms=budget_ms, before_ms=before_ms)
            # What failed never comes here, but by a wish that comes before its first frame.
            if running.times_ms:
                self._last_good = running
        return following

    def _tell_later(self, running: _Running, following: _Running) -> None:
        """Note a swap; it is told with the times of some frames after it."""
        self._report(running)
        was, now = labels(running.variant, following.variant)
        self._swap = Swap(was, now, running.median_ms(), None)
        self._alone = None

    def _note(self, running: _Running, frame: NDArray[np.uint8], result: Result) -> None:
        """Look at a frame that went well."""
        self._model = running.variant.model
        running.times_ms.append(result.times.total_ms)
        if len(running.times_ms) >= _AFTER_FRAMES:
            self._report(running)
        if running.probation is not None and not running.probation.over:
            slow = running.probation.fault_with(result.times.total_ms)
            if slow and self._last_good is not None:
                with self._trying:
                    self._go_back(running, self._last_good, slow)
        elif self._last_good is not None and not self._warm.holds(self._last_good.variant):
            # Both do not fit, and what runs has shown that it can.
            self._last_good = None
        if running.proven:
            self._sights.offer(frame, result)

    # When what runs does not work

    def _run_instead(self, failing: _Running, frame: NDArray[np.uint8], fault: str) -> Result | None:
        """Run a frame with what ran before, or with the next best; None where nothing else can."""
        other = self._last_good or self._next_best(failing, fault)
        if other is None:
            return None
        with self._trying:
            try:
                result = other.detector.run(frame)
            except Exception:  # noqa: BLE001 - both fail: what the first one says is told
                return None
            if result.nan:
                return None
            self._go_back(failing, other, fault)
        self._note(other, frame, result)
        return result

    def _go_back(self, failing: _Running, other: _Running, fault: str) -> None:
        """Run something else from now on, and have the loader say why."""
        self._tell_later(failing, other)
        other.times_ms, other.probation = deque(maxlen=_BEFORE_FRAMES), None
        self._last_good = None
        with self._changed:
            self._running = other
            self._refused = {**self._refused, failing.variant: fault}
            # A wish that nobody has made: the next best of what is wanted, with its thresholds.
            self._wishes += 1
            self._changed.notify_all()

    def _next_best(self, failing: _Running, fault: str) -> _Running | None:
        """Wait for what else there is of what is wanted, as after the start; None when there is nothing."""
        if self._alone == failing.variant:
            return None
        with self._changed:
            self._refused = {**self._refused, failing.variant: fault}
            self._wishes += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._answered == self._wishes)
            following, self._following = self._following, None
            if following is None or following.variant == failing.variant:
                self._alone = failing.variant
                self._refused = {variant: why for variant, why in self._refused.items() if variant != failing.variant}
                return None
        return following

    def _fault_of(self, variant: Variant, detector: FrameDetector) -> str:
        """Try out what is to run; called where it is loaded."""
        with self._trying:
            sights = self._sights.frames
            # Without frames that show something, a trial tells less: there is another one when there are some.
            tried = self._tried.get(variant)
            if tried or (tried is not None and not sights):
                return ""
            with self._changed:
                running = {one.variant for one in (self._running, self._following) if one is not None}
            if variant in running:
                return ""
            fault = fault_of(detector, sights)
            self._tried[variant] = bool(sights)
        if fault:
            with self._changed:
                self._refused = {**self._refused, variant: fault}
        return fault

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
        prepared = self._prepared(wanted)
        with self._changed:
            current = wish == self._wishes
            if current and prepared is not None:
                self._following = prepared
            self._answered = wish
            self._changed.notify_all()
        if prepared is not None:
            self._warm.keep(self._started().variant, prepared.variant if current else None, wanted.memory_limit_mb)
        self._tried = {variant: tried for variant, tried in self._tried.items() if self._warm.holds(variant)}

    def _prepared(self, wanted: Wanted) -> _Running | None:
        try:
            return _Running(*self._warm.prepare(wanted, self._refused))
        except MechaError as error:
            text = f"{error}; what runs stays"
            self._warm.tell(logging.ERROR, f"{text}\n{error.hint}" if error.hint else text)
            return None
