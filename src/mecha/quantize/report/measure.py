"""Measure what a report shows: tensors, blocks and detections of both precisions, on frames of the gate."""

from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detector import Detector
from mecha.detect.preprocess import Preprocessor
from mecha.detect.preview import preview, preview_scale
from mecha.graph.prepare import fix_input_size
from mecha.graph.reading import load_model
from mecha.progress import Progress, silent
from mecha.quantize.needs import require_onnx
from mecha.quantize.report.blocks import block_rows, float_convs_of
from mecha.quantize.report.rows import Report, Sample
from mecha.quantize.report.tensors import tensor_rows

if TYPE_CHECKING:
    from mecha.store.spec import ModelSpec

Frame = NDArray[np.uint8]

_TENSOR_FRAMES = 4
# So many are looked at, and those with most objects in them are shown.
_SAMPLE_FRAMES = 8
_SHOWN_FRAMES = 3
_LONGEST_SIDE = 480
_THRESHOLD = 0.25
_STEPS = 3


class Frames(Sized, Iterable[Frame], Protocol):
    """Frames, BGR uint8; a `FrameSet` is one."""

    @property
    def description(self) -> str:
        """What they are, in a few words."""


def measure_report(
    fp32: Path, int8: Path, frames: Frames, spec: "ModelSpec", *, threads: int, progress: Progress = silent
) -> Report:
    """Compare an INT8 file with the FP32 file it was made from.

    Memory does not grow with the model's tensors: a few at a time are compared. Times are of the files run whole.

    Args:
        fp32: the FP32 file.
        int8: a file with the same inputs and outputs.
        frames: at least one; not those of the calibration.
        spec: describes both.
        threads: of every session.
        progress: told of stage "report".

    Raises:
        MechaError: a file cannot be read, or onnxruntime cannot run it.
    """
    require_onnx()
    height, width = spec.input.height, spec.input.width
    chosen = _spread(frames, _SAMPLE_FRAMES)
    preprocess = Preprocessor(spec.preprocessing, height, width)
    # The preprocessor prepares every frame in the same buffer.
    inputs = [preprocess(frame)[0].copy() for frame in chosen[:: max(len(chosen) // _TENSOR_FRAMES, 1)]][
        :_TENSOR_FRAMES
    ]
    whole, quantized = load_model(fp32), load_model(int8)
    fixed = fix_input_size(whole, height, width) if spec.input.dynamic else whole
    progress("report", 0, _STEPS)
    rows, skipped = tensor_rows(fixed, quantized, inputs, threads=threads)
    progress("report", 1, _STEPS)
    blocks = block_rows(fixed, quantized, inputs, threads=threads)
    progress("report", 2, _STEPS)
    samples = _samples(fp32, int8, chosen, spec, threads) if spec.family else ()
    progress("report", _STEPS, _STEPS)
    return Report(
        tensors=rows,
        blocks=blocks,
        float_convs=float_convs_of(fixed, quantized),
        samples=samples,
        threshold=_THRESHOLD,
        frames=len(inputs),
        frames_description=frames.description,
        threads=threads,
        skipped=skipped,
    )


def _spread(frames: Frames, count: int) -> list[Frame]:
    """Return a few frames, spread over all."""
    apart = max(len(frames) // count, 1)
    return [frame for number, frame in enumerate(frames) if number % apart == 0][:count]


def _samples(fp32: Path, int8: Path, frames: Sequence[Frame], spec: "ModelSpec", threads: int) -> tuple[Sample, ...]:
    """Return the frames on which FP32 finds most, in their order."""
    ours = Detector.from_file(fp32, spec, precision="FP32", threads=threads, score_threshold=_THRESHOLD)
    found = [ours(frame) for frame in frames]
    del ours
    most = sorted(range(len(frames)), key=lambda number: -len(found[number]))[:_SHOWN_FRAMES]
    theirs = Detector.from_file(int8, spec, precision="INT8", threads=threads, score_threshold=_THRESHOLD)
    samples = []
    for number in sorted(most):
        frame, expected, got = frames[number], found[number], theirs(frames[number])
        height, width = frame.shape[:2]
        scale = preview_scale(height, width, _LONGEST_SIDE)
        samples.append(
            Sample(
                width=max(round(width * scale), 1),
                height=max(round(height * scale), 1),
                fp32_count=len(expected),
                int8_count=len(got),
                fp32_jpeg=preview(frame, expected, longest=_LONGEST_SIDE),
                int8_jpeg=preview(frame, got, longest=_LONGEST_SIDE),
            )
        )
    return tuple(samples)
