"""Run a configuration: read it, calibrate, write the INT8 file and its report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.detect.session import default_threads
from mecha.graph.cut import find_tail
from mecha.graph.prepare import fix_input_shape, load_model, to_opset
from mecha.progress import Progress, silent
from mecha.quantize.built import Built
from mecha.quantize.dynamic import build_dynamic
from mecha.quantize.judge import TailJudge
from mecha.quantize.needs import require_onnx
from mecha.quantize.report.rows import TensorRow
from mecha.quantize.report.tensors import tensor_rows
from mecha.quantize.static import load_float_model
from mecha.quantize.static_build import OPSET, CalibrationSource, StaticBuild
from mecha.quantize.xquant.config import ConfigFile, read_config
from mecha.quantize.xquant.mapping import Mapped, mapped
from mecha.quantize.xquant.parts import Parts
from mecha.quantize.xquant.report import report_text
from mecha.quantize.xquant.samples import Samples, find_samples, missing
from mecha.quantize.xquant.slot import Slot, find_slot
from mecha.store.atomic import make_dir, write_file

if TYPE_CHECKING:
    from onnx import ModelProto

# The tensors of both models are compared on so many files, spread over all.
_COMPARED = 4
_REPORT_STEPS = 2


@dataclass(frozen=True, slots=True)
class Quantized:
    """What a configuration came to.

    Attributes:
        model: the INT8 file.
        report: None where the configuration asks for none, or names no files to compare on.
        samples: how many files were calibrated on; skipped: how many could not be read.
        unknown: a sentence for each key that was passed over.
        notes: what mecha does differently, a sentence each.
        outputs: the model's outputs compared with FP32; empty without a report.
    """

    model: Path
    report: Path | None
    fp32_bytes: int
    int8_bytes: int
    samples: int
    skipped: int
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    built: Built
    outputs: tuple[TensorRow, ...]


@dataclass(frozen=True, slots=True)
class _Calibration:
    slot: Slot
    samples: Samples


def quantize_config(config: Path, *, root: Path, progress: Progress = silent, threads: int | None = None) -> Quantized:
    """Do what an xquant or xslim configuration says.

    A `preprocess_file` that names a Python function is run: it is the user's own code.

    Args:
        config: the file.
        root: where its relative paths start: the folder the command runs in.
        progress: told of stages "quantize", "round", "search" and "report".
        threads: of all sessions; as many as a session uses by default where None.

    Raises:
        NotFoundError: the configuration, the model, the list or the Python file is not there.
        ConfigError: the configuration cannot be used, or not with this model.
        UnsupportedModelError: the model is none that can be calibrated here.
        QuantizationError: it is quantized already, there is nothing to calibrate on, or INT8 cannot be made.
        DiskError: the results cannot be written.
    """
    require_onnx()
    file = read_config(config)
    parameters = file.config.model_parameters
    fp32 = root / parameters.onnx_model
    if not fp32.is_file():
        raise missing(file, fp32, parameters.onnx_model, "an ONNX model")
    model = to_opset(load_float_model(fp32), max(OPSET, parameters.opset or OPSET))
    wanted = mapped(file, Parts(model, file))
    calibration = _calibration(file, model, wanted, root)
    threads = threads or default_threads()
    folder = root / parameters.working_dir if parameters.working_dir else fp32.parent
    prefix = parameters.output_prefix or f"{fp32.stem}.q"
    target = folder / f"{prefix}.onnx"
    if target.resolve() == fp32.resolve():
        path = ("model_parameters", "output_prefix")
        raise file.error(path, f'got "{prefix}"; expected a name other than that of the model itself')
    make_dir(folder)
    if wanted.dynamic or calibration is None:
        built = build_dynamic(fp32, target)
    else:
        written, built = _static(model, calibration, wanted, fp32.name, progress, threads)
        write_file(target, written)
    rows: tuple[TensorRow, ...] = ()
    report: Path | None = None
    if calibration is not None and file.config.quantization_parameters.analysis_enable is not False:
        progress("report", 0, _REPORT_STEPS)
        source = _source(calibration)
        fixed = fix_input_shape(model, calibration.slot.shape)
        rows, _ = tensor_rows(fixed, load_model(target), source.spread(_COMPARED), threads=threads)
        progress("report", 1, _REPORT_STEPS)
        report = folder / f"{prefix}_report.md"
        write_file(report, report_text(rows, built, wanted.notes, min(_COMPARED, source.count)).encode())
        progress("report", _REPORT_STEPS, _REPORT_STEPS)
    return Quantized(
        model=target,
        report=report,
        fp32_bytes=fp32.stat().st_size,
        int8_bytes=target.stat().st_size,
        samples=0 if calibration is None or wanted.dynamic else len(calibration.samples),
        skipped=0 if calibration is None else calibration.samples.skipped,
        unknown=file.unknown,
        notes=wanted.notes,
        built=built,
        outputs=tuple(row for row in rows if row.kind == "output"),
    )


def _calibration(file: ConfigFile, model: "ModelProto", wanted: Mapped, root: Path) -> _Calibration | None:
    """Return what to calibrate on; None for dynamic INT8 where the configuration names nothing."""
    if wanted.dynamic and not file.config.calibration_parameters.inputs:
        return None
    slot, entry = find_slot(model, file, where=file.config.model_parameters.onnx_model)
    return _Calibration(slot, find_samples(file, entry, slot, root))


def _source(calibration: _Calibration) -> CalibrationSource:
    # Nothing is kept from one run to the next: a function of the user's own may read anything.
    return CalibrationSource(calibration.samples.tensors, len(calibration.samples), lambda _sha256, _tensors: "")


def _static(
    model: "ModelProto", calibration: _Calibration, wanted: Mapped, where: str, progress: Progress, threads: int
) -> tuple[bytes, Built]:
    fixed = fix_input_shape(model, calibration.slot.shape)
    build = StaticBuild(
        model,
        fixed,
        _source(calibration),
        TailJudge(find_tail(fixed).boundary),
        wanted.options,
        where=where,
        progress=progress,
        threads=threads,
    )
    return build.run()
