"""Which of several INT8 files gives more of what FP32 gives."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Detector
from mecha.errors import MechaError
from mecha.gate.agreement import Comparison, FrameOutputs, Standing, standings
from mecha.gate.alignment import aligned
from mecha.store.spec import ModelSpec


def contest(
    fp32: Path, rivals: Sequence[Path], spec: ModelSpec, frames: Iterable[NDArray[np.uint8]], *, threads: int
) -> tuple[Standing, ...]:
    """Return how far each INT8 file agrees with FP32 over the same frames.

    A file that cannot be loaded, or gives numbers that are none, stands at 0.

    Args:
        frames: BGR uint8, at least one.
        threads: of every session.

    Raises:
        MechaError: the FP32 file cannot be loaded or decoded.
    """
    reference = Detector.from_file(fp32, spec, precision="FP32", threads=threads)
    running = [(Comparison(), _loaded(file, spec, threads)) for file in rivals]
    if any(detector is not None and detector.stride != reference.stride for _, detector in running):
        # Anchors are compared one by one, so all must run at one size: the one that each of them takes.
        reference = Detector.from_file(fp32, spec, precision="FP32", threads=threads, square=True)
        running = [(Comparison(), _loaded(file, spec, threads, square=True)) for file in rivals]
    failed = [detector is None for _, detector in running]
    for frame in frames:
        ours = FrameOutputs(*reference.examine(frame))
        for index, (compared, detector) in enumerate(running):
            if failed[index] or detector is None:
                continue
            theirs = _outputs(detector, frame)
            failed[index] = theirs is None
            if theirs is not None:
                compared.add(ours, theirs if reference.overlapping else aligned(ours, theirs))
    figures = standings([compared for compared, _ in running])
    return tuple(replace(one, agreement=0.0) if lost else one for lost, one in zip(failed, figures, strict=True))


def _loaded(file: Path, spec: ModelSpec, threads: int, *, square: bool = False) -> Detector | None:
    try:
        return Detector.from_file(file, spec, precision="INT8", threads=threads, square=square)
    except MechaError:
        return None


def _outputs(detector: Detector, frame: NDArray[np.uint8]) -> FrameOutputs | None:
    try:
        outputs = FrameOutputs(*detector.examine(frame))
    except MechaError:
        return None
    return outputs if outputs.finite else None
