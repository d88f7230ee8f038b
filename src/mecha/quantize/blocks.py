"""Which blocks INT8 hurts most: found by leaving them float and looking at what reaches the decode tail."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import Session, default_threads
from mecha.graph.cpu import cpu_features
from mecha.graph.cut import cut_at, find_tail
from mecha.graph.prepare import fix_input_size, to_opset
from mecha.progress import Progress, silent
from mecha.quantize.needs import require_onnx
from mecha.quantize.plan import Plan, make_plan
from mecha.quantize.qdq import write_pairs
from mecha.quantize.ranges import Range, range_method
from mecha.quantize.static import OPSET, StaticOptions, calibrated_ranges, load_float_model, storage_for

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.quantize.frames import FrameSet
    from mecha.store.spec import ModelSpec

_PROBE_FRAMES = 3
# A single Conv left float changes little while its neighbours still round what it reads and makes.
_WINDOW = 4
_STRIDE = 2
# Another window must take away at least this share of the error that is left.
_SMALLEST_GAIN = 0.2
# Only the windows that did best at first are tried again beside the chosen ones.
_TRIED_AGAIN = 8


def worst_blocks(
    fp32: Path,
    frames: "FrameSet",
    spec: "ModelSpec",
    *,
    options: StaticOptions | None = None,
    count: int = 8,
    progress: Progress = silent,
    threads: int | None = None,
) -> tuple[str, ...]:
    """Return the Convs that INT8 does most harm with, in graph order: for `StaticOptions.leave_float`.

    Windows of neighbouring Convs are left float, one at a time, and INT8 is compared with FP32 at the tensors that
    enter the decode tail; no labels are needed. The best window stays float and the search goes on beside it.

    Args:
        fp32: the FP32 file.
        frames: calibration frames; some of them are also compared on.
        options: as for the build whose worst blocks are looked for.
        count: at most so many Convs.
        progress: told of stage "quantize", in builds compared; the total is not known.

    Raises:
        as build_static does.
    """
    require_onnx()
    options = options or StaticOptions()
    threads = threads or default_threads()
    model = fix_input_size(to_opset(load_float_model(fp32), OPSET), spec.input.height, spec.input.width)
    plan = _plan(model, options)
    ranges = calibrated_ranges(
        model, plan, frames, spec, method=range_method(options.range), progress=progress, threads=threads
    )
    probe = _Probe(model, options, ranges, _inputs(frames, spec), threads, progress)
    convs = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name in plan.integer_nodes]
    return _search(convs, probe, count)


def _search(convs: Sequence[str], probe: "_Probe", count: int) -> tuple[str, ...]:
    chosen: set[str] = set()
    left = probe.error(())
    windows = [tuple(convs[start : start + _WINDOW]) for start in range(0, len(convs), _STRIDE)]
    while windows and len(chosen) < count:
        errors = {window: probe.error(chosen | set(window)) for window in windows}
        ranked = sorted(windows, key=lambda window: errors[window])
        best = ranked[0]
        if errors[best] > left * (1 - _SMALLEST_GAIN):
            break
        left = errors[best]
        chosen |= set(best)
        windows = [window for window in ranked[1 : 1 + _TRIED_AGAIN] if not chosen.issuperset(window)]
    return tuple(name for name in convs if name in chosen)[:count]


class _Probe:
    """FP32's values at the decode tail, and how far INT8 is from them with some Convs left float."""

    def __init__(
        self,
        model: "ModelProto",
        options: StaticOptions,
        ranges: dict[str, Range],
        inputs: Sequence[NDArray[np.float32]],
        threads: int,
        progress: Progress,
    ) -> None:
        self._model = model
        self._options = options
        self._ranges = ranges
        self._inputs = inputs
        self._threads = threads
        self._progress = progress
        self._storage = storage_for(cpu_features(), options.scheme)
        self._boundary = find_tail(model).boundary
        self._expected = self._run(model)
        self._compared = 0

    def error(self, leave_float: "set[str] | tuple[str, ...]") -> float:
        """Return the power of the error over the power of the signal, the mean of all tensors that enter the tail.

        The signal is what differs from place to place: class logits sit on a constant far larger than themselves.
        """
        plan = _plan(self._model, self._options, tuple(leave_float))
        seen = self._run(write_pairs(self._model, plan, self._ranges, self._storage))
        self._compared += 1
        self._progress("quantize", self._compared, None)
        noise, signal = np.zeros(len(self._boundary)), np.zeros(len(self._boundary))
        for expected, got in zip(self._expected, seen, strict=True):
            for at, (wanted, value) in enumerate(zip(expected, got, strict=True)):
                places = tuple(range(2, wanted.ndim))
                noise[at] += float(np.square(value - wanted).sum())
                signal[at] += float(np.square(wanted - wanted.mean(axis=places, keepdims=True)).sum())
        return float((noise / np.maximum(signal, 1e-12)).mean())

    def _run(self, model: "ModelProto") -> list[list[NDArray[np.float32]]]:
        session = Session(cut_at(model, self._boundary).SerializeToString(), threads=self._threads, where="INT8 model")
        return [session.run(tensor) for tensor in self._inputs]


def _plan(model: "ModelProto", options: StaticOptions, leave_float: tuple[str, ...] = ()) -> Plan:
    return make_plan(
        model,
        exclude_nodes=options.exclude_nodes,
        truncate=options.truncate,
        leave_float=(*options.leave_float, *leave_float),
        absorb=options.scheme == "uniform",
    )


def _inputs(frames: "FrameSet", spec: "ModelSpec") -> list[NDArray[np.float32]]:
    """Input tensors of a few frames, spread over all of them."""
    preprocess = Preprocessor(spec.preprocessing, spec.input.height, spec.input.width)
    apart = max(len(frames) // _PROBE_FRAMES, 1)
    chosen = [frame for number, frame in enumerate(frames) if number % apart == 0][:_PROBE_FRAMES]
    return [preprocess(frame)[0].copy() for frame in chosen]
