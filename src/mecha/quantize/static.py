"""INT8 by calibration: integer weights and activations between the first Conv and the decode tail."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import default_threads
from mecha.errors import QuantizationError
from mecha.graph.index import QUANTIZING_OPS
from mecha.graph.prepare import fix_input_size, load_model, to_opset
from mecha.progress import Progress, silent
from mecha.quantize.built import Built
from mecha.quantize.calibrate import CalibrationCache, Tensor, calibration_key
from mecha.quantize.judge import judge_of
from mecha.quantize.needs import require_onnx
from mecha.quantize.options import StaticOptions
from mecha.quantize.static_build import OPSET, CalibrationSource, StaticBuild
from mecha.store.atomic import write_file

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.quantize.frames import FrameSet
    from mecha.store.spec import ModelSpec


def build_static(
    fp32: Path,
    target: Path,
    frames: "FrameSet",
    spec: "ModelSpec",
    *,
    options: StaticOptions | None = None,
    progress: Progress = silent,
    threads: int | None = None,
    cache: CalibrationCache | None = None,
) -> Built:
    """Write an INT8 model that keeps the inputs, outputs and metadata of the FP32 one.

    Args:
        fp32: the FP32 file.
        target: where the INT8 file appears, whole or not at all.
        frames: calibration frames.
        spec: says how a frame becomes an input.
        options: the defaults of StaticOptions where None.
        progress: told of stages "quantize" (frames looked at), "round" (Convs) and "search" (builds compared).
        threads: of the calibration runs; as many as a session uses by default where None.
        cache: of what calibration saw.

    Raises:
        ConfigError: an option names what the model or this release does not have.
        QuantizationError: the model is quantized already, holds nothing to quantize, or the result does not load.
    """
    require_onnx()
    height, width = spec.input.height, spec.input.width
    preprocess = Preprocessor(spec.preprocessing, height, width)

    def inputs() -> Iterator[Tensor]:
        for frame in frames:
            yield preprocess(frame)[0]

    model = to_opset(load_float_model(fp32), OPSET)
    source = CalibrationSource(
        inputs,
        len(frames),
        lambda sha256, tensors: calibration_key(
            sha256, frames.digest, preprocessing=spec.preprocessing, height=height, width=width, tensors=tensors
        ),
    )
    fixed = fix_input_size(model, height, width)
    build = StaticBuild(
        model,
        fixed,
        source,
        judge_of(fixed, spec),
        options or StaticOptions(),
        where=fp32.name,
        progress=progress,
        threads=threads or default_threads(),
        cache=cache,
    )
    written, built = build.run()
    write_file(target, written)
    return built


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
