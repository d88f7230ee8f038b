"""Detectors that are loaded and warmed up, so that a switch between them takes no time.

Both precisions of a model stay loaded while they fit the memory limit, because onnxruntime does not give the memory of
a dropped session back: each load after a drop would make the process grow.
"""

import logging
from collections.abc import Callable, Mapping

from mecha.errors import MechaError, UnsupportedModelError
from mecha.runtime.variants import Choice, FrameDetector, Loader, Variant, Wanted


class WarmDetectors:
    """Loads what is wanted, or the next best, and remembers it. Used by one thread.

    Args:
        loader: finds and loads models.
        log: where loading and faults are told.
        fault_of: tries out what is to run; returns why it must not, "" when it may.
    """

    def __init__(self, loader: Loader, log: logging.Logger, fault_of: Callable[[Variant, FrameDetector], str]) -> None:
        self._loader = loader
        self._log = log
        self._fault_of = fault_of
        # Least recently used first.
        self._warm: dict[Variant, FrameDetector] = {}
        self._choice: Choice | None = None
        self._told = ""
        self._tight_mb: float | None = None

    def prepare(self, wanted: Wanted, refused: Mapping[Variant, str]) -> tuple[Variant, FrameDetector]:
        """Return what runs best of what is wanted, warmed up.

        Args:
            refused: what must not run, and why.

        Raises:
            MechaError: there is no such model, or nothing of it can be loaded.
        """
        choice = self._choice = self._loader.choose(wanted)
        best, *others = choice.variants
        if choice.notice:
            self.tell(logging.WARNING, choice.notice)
        try:
            prepared = best, self._loaded(best, wanted, refused)
        except MechaError as error:
            if not others:
                raise
            text = f"{best.precision} of {best.model} cannot be used: {error}; running {others[0].precision}."
            self.tell(logging.WARNING, f"{text} {choice.remedy}".rstrip())
            return others[0], self._loaded(others[0], wanted, refused)
        if not choice.notice:
            self._told = ""
        return prepared

    def other_choice(self, wanted: Wanted) -> bool:
        """Tell whether there is something else to run than before: INT8 was built, or the model pulled again."""
        try:
            return self._loader.choose(wanted) != self._choice
        except MechaError:
            # A model that is removed while it runs goes on running.
            return False

    def keep(self, running: Variant, following: Variant | None, limit_mb: float | None) -> None:
        """Drop what is not needed: two stay, what runs next and what ran before, or one where two are too much."""
        kept = [following or running]
        used_mb = self._loader.memory_mb()
        if limit_mb is None or used_mb <= limit_mb:
            kept += [variant for variant in (*self._warm, running) if variant != kept[0]][-1:]
        elif len(self._warm) > 1 and self._tight_mb != limit_mb:
            self._tight_mb = limit_mb
            self._log.warning(
                "%.0f MB are in use, more than memory_limit_mb = %g: only what runs stays loaded, and every switch "
                "loads again.",
                used_mb,
                limit_mb,
            )
        self._warm = {variant: detector for variant, detector in self._warm.items() if variant in kept}

    def tell(self, level: int, text: str) -> None:
        """Log a sentence, once for as long as nothing else happens."""
        if text != self._told:
            self._told = text
            self._log.log(level, "%s", text)

    def holds(self, variant: Variant) -> bool:
        """Tell whether a variant stays loaded. Any thread may ask."""
        return variant in self._warm

    def _loaded(self, variant: Variant, wanted: Wanted, refused: Mapping[Variant, str]) -> FrameDetector:
        fault = refused.get(variant, "")
        others = {one: warm for one, warm in self._warm.items() if one != variant}
        detector = None if fault else self._warm.get(variant)
        if not fault and detector is None:
            self._log.info("Loading model %s (%s)", variant.file, variant.precision)
            detector = self._loader.load(variant)
            detector.warm_up()
        if detector is not None:
            fault = self._fault_of(variant, detector)
        if detector is None or fault:
            self._warm = others
            raise UnsupportedModelError(f"{variant.file}: {fault}")
        self._warm = others | {variant: detector}
        return detector.with_thresholds(
            score_threshold=wanted.score_threshold,
            iou_threshold=wanted.iou_threshold,
            max_detections=wanted.max_detections,
        )
