"""INT8 by calibration: integer weights and activations between the first Conv and the decode tail."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import default_threads
from mecha.errors import ConfigError, QuantizationError
from mecha.graph.cpu import CpuFeatures, cpu_features
from mecha.graph.index import QUANTIZING_OPS
from mecha.graph.prepare import fix_input_size, load_model, to_opset
from mecha.progress import Progress, silent
from mecha.quantize.built import Built
from mecha.quantize.calibrate import Tensor, find_ranges, passes
from mecha.quantize.fusion import float_convs, requantized_convs
from mecha.quantize.needs import require_onnx
from mecha.quantize.plan import Plan, make_plan
from mecha.quantize.qdq import Storage, write_pairs
from mecha.quantize.ranges import SCHEMES, Range, Scheme, range_method
from mecha.store.atomic import write_file

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.quantize.frames import FrameSet
    from mecha.store.spec import ModelSpec

OPSET = 13  # the first whose DequantizeLinear takes a scale for each channel
_UNIT = Range(0.0, 1.0)
# SiLU(-6) is -0.015, and what is below comes closer to zero still. Convs reach -100 there, and the integers spent on it
# are missing above: cutting it off halved the error at yolov8n's head.
_SILU_FLOOR = -6.0


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """How static INT8 is made.

    Attributes:
        range: how the range of a tensor is found; "auto" stands for the method that did best in our measurements.
        exclude_nodes: nodes that stay float.
        truncate: tensors after which everything stays float, besides the decode tail.
        scheme: form of the scales.
        leave_float: names of further Convs that stay float with their activations.
    """

    range: str = "auto"
    exclude_nodes: tuple[str, ...] = ()
    truncate: tuple[str, ...] = ()
    scheme: Scheme = "uniform"
    leave_float: tuple[str, ...] = ()


def build_static(
    fp32: Path,
    target: Path,
    frames: "FrameSet",
    spec: "ModelSpec",
    *,
    options: StaticOptions | None = None,
    progress: Progress = silent,
    threads: int | None = None,
) -> Built:
    """Write an INT8 model that keeps the inputs, outputs and metadata of the FP32 one.

    Args:
        fp32: the FP32 file.
        target: where the INT8 file appears, whole or not at all.
        frames: calibration frames.
        spec: says how a frame becomes an input.
        options: the defaults of StaticOptions where None.
        progress: told of stage "quantize", in frames.
        threads: of the calibration runs; as many as a session uses by default where None.

    Raises:
        ConfigError: an option names what the model or this release does not have.
        QuantizationError: the model is quantized already, holds nothing to quantize, or the result does not load.
    """
    require_onnx()
    options = options or StaticOptions()
    method = range_method(options.range)
    if options.scheme not in SCHEMES:
        raise ConfigError(f'scheme: got "{options.scheme}"; expected {", ".join(SCHEMES[:-1])} or {SCHEMES[-1]}')
    model = to_opset(load_float_model(fp32), OPSET)
    plan = make_plan(
        model,
        exclude_nodes=options.exclude_nodes,
        truncate=options.truncate,
        leave_float=options.leave_float,
        absorb=options.scheme == "uniform",
    )
    if not plan.integer_nodes:
        raise QuantizationError(
            f"{fp32.name}: got no Conv between the first one and the decode tail; expected at least one to quantize"
        )
    ranges = calibrated_ranges(
        model, plan, frames, spec, method=method, progress=progress, threads=threads or default_threads()
    )
    int8 = write_pairs(model, plan, ranges, storage_for(cpu_features(), options.scheme)).SerializeToString()
    notes = _notes(int8)
    write_file(target, int8)
    return Built("static_int8", plan.float_convs, notes)


def load_float_model(path: Path) -> "ModelProto":
    """Read an FP32 model.

    Raises:
        QuantizationError: it is quantized already.
    """
    model = load_model(path)
    found = next((node for node in model.graph.node if node.op_type in QUANTIZING_OPS), None)
    if found is not None:
        raise QuantizationError(
            f"{path.name}: got a model with {found.op_type} nodes; expected FP32, this one is quantized already",
            hint="Quantize the FP32 model it was made from.",
        )
    return model


def storage_for(cpu: CpuFeatures, scheme: Scheme) -> Storage:
    """Return the layout of integers that a CPU multiplies fastest without error.

    x86 takes unsigned activations and signed weights (S8S8 was 4 times slower there); without VNNI it adds pairs of
    products in 16 bits, which 8-bit weights overflow. ARM's dot products take two signed operands.
    """
    return Storage(
        activations="int8" if cpu.arch == "arm64" else "uint8",
        weight_bits=7 if cpu.saturates else 8,
        scheme=scheme,
    )


def calibrated_ranges(
    model: "ModelProto",
    plan: Plan,
    frames: "FrameSet",
    spec: "ModelSpec",
    *,
    method: str,
    progress: Progress,
    threads: int,
) -> dict[str, Range]:
    """Return the range of every root tensor of the plan, seen on the frames at the size the model will run."""
    preprocess = Preprocessor(spec.preprocessing, spec.input.height, spec.input.width)
    done = 0

    def inputs() -> Iterator[Tensor]:
        for frame in frames:
            yield preprocess(frame)[0]

    def on_frame() -> None:
        nonlocal done
        done += 1
        progress("quantize", done, passes(method) * len(frames))

    fixed = fix_input_size(model, spec.input.height, spec.input.width)
    ranges = find_ranges(fixed, plan.observed, inputs, method=method, threads=threads, on_frame=on_frame)
    ranges |= {
        name: Range(max(ranges[name].low, _SILU_FLOOR), ranges[name].high) for name in plan.gated & ranges.keys()
    }
    return ranges | dict.fromkeys(plan.unit, _UNIT)


def _notes(int8: bytes) -> tuple[str, ...]:
    """What onnxruntime made of the file, where it is not what the plan says."""
    notes = []
    if left := float_convs(int8):
        notes.append(f"onnxruntime runs {len(left)} Convs of the INT8 region in float: {', '.join(left[:5])}")
    if taken := requantized_convs(int8):
        notes.append(f"onnxruntime quantizes {len(taken)} Convs that were left float: {', '.join(taken[:5])}")
    return tuple(notes)
