"""From what a program names (a model, its folder, an ONNX file) to the files and the description a detector needs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.errors import ConfigError, NotFoundError
from mecha.store.spec import InputSpec, ModelSpec, PreprocessingPreset, SourceSpec

if TYPE_CHECKING:
    from mecha.graph.inspect import ModelSignature
    from mecha.store.manifest import TunedSession, TuneRecord, Verdict
    from mecha.store.published import PublishedModel

# What the exports of a family are trained with; "yolo" for the others.
_PRESETS: Mapping[str, PreprocessingPreset] = {"yolox": "yolox", "detr": "detr", "nanodet": "nanodet"}
_DEFAULT_SIZE = (640, 640)


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """The files of one model.

    Attributes:
        fp32: the file that always runs; INT8 where `quantized`.
        int8: None while there is no INT8 build.
        verdict: what the gate said of the INT8 build on this device.
        quantized: `fp32` came from elsewhere and is INT8 already; there is no FP32.
        tuned: what `mecha models tune` found, on whatever device that was.
        remedy: a sentence that says how to get INT8.
    """

    name: str
    fp32: Path
    spec: ModelSpec
    remedy: str
    int8: Path | None = None
    verdict: "Verdict | None" = None
    quantized: bool = False
    tuned: "TuneRecord | None" = None

    @property
    def int8_only(self) -> str:
        """A sentence for those who ask for FP32 where there is none."""
        return f"{self.name} is there in INT8 only; running INT8."

    def tuned_for(self, precision: str) -> "TunedSession | None":
        """Return how a precision runs fastest, if that was measured on this device with this onnxruntime."""
        from mecha.detect.session import tuned_device

        if self.tuned is None or (self.tuned.device, self.tuned.onnxruntime) != tuned_device():
            return None
        return self.tuned.sessions.get(precision)


def locate(model: str | Path, *, cwd: Path, environ: Mapping[str, str]) -> LocatedModel:
    """Find a model.

    Args:
        model: the name of a published model; or, as a Path or with a path separator or ending in .onnx, the folder of
            one or any ONNX file.
        cwd: names are looked up in the project around it.

    Raises:
        NotFoundError: no such model or file.
        ConfigError: config.json beside the file has faults.
        UnsupportedModelError: the file is no detector.
        IntegrityError: the file is no ONNX.
    """
    if isinstance(model, str) and not _is_path(model):
        from mecha.project import find_project
        from mecha.store.models import ModelStore

        return _published(ModelStore.of(find_project(cwd, environ)).require(model))
    path = cwd / model
    folder = path if path.is_dir() else path.parent
    if (folder / "manifest.json").is_file() and path in {folder, folder / "model.onnx"}:
        from mecha.store.models import ModelStore

        return _published(ModelStore(folder.resolve().parent).require(folder.resolve().name))
    if path.is_dir():
        raise NotFoundError(f"{path}: holds no manifest.json; expected the folder of a pulled model, or an ONNX file")
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file; expected an ONNX model")
    return _single_file(path)


def _is_path(model: str) -> bool:
    return model.endswith(".onnx") or "/" in model or os.sep in model


def _published(found: "PublishedModel") -> LocatedModel:
    gate = found.manifest.int8.gate
    return LocatedModel(
        name=found.name,
        fp32=found.fp32_path,
        spec=found.spec,
        remedy=f"`mecha models quantize {found.name}` makes INT8.",
        int8=found.int8_path,
        verdict=gate.verdict if gate else None,
        quantized=found.quantized,
        tuned=found.manifest.tuned,
    )


def _single_file(path: Path) -> LocatedModel:
    from mecha.graph.inspect import inspect_model

    signature = inspect_model(path)
    config = path.parent / "config.json"
    return LocatedModel(
        name=path.stem,
        fp32=path,
        spec=read_spec(config) if config.is_file() else inspected_spec(path, signature),
        remedy="An entry in model_catalog.toml and `mecha models pull NAME` make INT8.",
        quantized=signature.quantized,
    )


def inspected_spec(path: Path, signature: "ModelSignature") -> ModelSpec:
    """Describe an ONNX file by what it says itself: size, family, and class names from its metadata.

    Raises:
        UnsupportedModelError: it is no detector.
    """
    from mecha.graph.inspect import require_detector

    family = require_detector(signature, where=str(path))
    height, width = signature.input_size or signature.metadata_size or _DEFAULT_SIZE
    return ModelSpec(
        schema=1,
        name=path.stem,
        task="object-detection",
        family=family,
        input=InputSpec(
            name=signature.inputs[0].name,
            height=height,
            width=width,
            dynamic=signature.dynamic,
            stride=signature.stride,
        ),
        preprocessing=family_preset(family),
        classes=signature.names or tuple(f"class_{index}" for index in range(signature.class_count or 0)),
        source=SourceSpec(repo="", filename=path.name, revision=""),
    )


def family_preset(family: str | None) -> PreprocessingPreset:
    """Return what becomes of a frame where nobody says: what the exports of a family are trained with."""
    return _PRESETS.get(family or "", "yolo")


def read_spec(path: Path) -> ModelSpec:
    """Read the config.json of a model.

    Raises:
        ConfigError: it has faults; the message gives them all, with their lines.
        DiskError: it cannot be read.
    """
    from mecha.validation import json_line_of, parse_json, read_text, validated

    where = str(path)
    text = read_text(path, where=where)
    return validated(ModelSpec, parse_json(text, where=where), where=where, line_of=json_line_of(text))


def chosen_size(spec: ModelSpec, input_size: int | None) -> tuple[int, int]:
    """Return (height, width) in pixels that a model runs at.

    Args:
        input_size: both sides; None for the model's own size.

    Raises:
        ConfigError: the model does not take this size.
    """
    own = (spec.input.height, spec.input.width)
    if input_size is None or own == (input_size, input_size):
        return own
    if not spec.input.dynamic:
        raise ConfigError(
            f"{spec.name}: input_size: got {input_size}; expected {own[1]}x{own[0]}, the only size this model takes",
            hint="Leave input_size out, or export the model with dynamic axes.",
        )
    if input_size < spec.input.stride or input_size % spec.input.stride:
        nearest = max(1, round(input_size / spec.input.stride)) * spec.input.stride
        raise ConfigError(
            f"{spec.name}: input_size: got {input_size}; expected a multiple of {spec.input.stride}",
            hint=f"The nearest one is {nearest}.",
        )
    return input_size, input_size
