"""The keys of an xquant or xslim configuration, read once into typed values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mecha.errors import ConfigError
from mecha.faults import KeyFault
from mecha.positions import KeyPath, LineOf, shown
from mecha.quantize.xquant.commented_json import plain_json
from mecha.validation import Expected, Frozen, checked, config_error, json_line_of, parse_json, read_text
from mecha.words import did_you_mean

CalibrationType = Literal["default", "kl", "minmax", "percentile", "mse"]
Numbers = Annotated[tuple[float, ...], Expected("a list of numbers")]
Names = Annotated[tuple[str, ...], Expected("a list of names")]
Percentile = Annotated[float, Field(ge=0.99, le=1), Expected("a share from 0.99 to 1")]
# FP16 and graph slimming, which these tools do under higher levels, are no INT8.
Level = Annotated[int, Field(ge=0, le=3), Expected("0, 1, 2 or 3; 4, which is FP16, and beyond are no INT8")]

# What these tools take where the key is absent.
DEFAULT_STEPS = 500
DEFAULT_PERCENTILE = 0.9999


class ModelParameters(Frozen):
    """The model, and where the results go."""

    onnx_model: Annotated[str, Field(min_length=1), Expected("the path of an ONNX file")]
    working_dir: str | None = None
    output_prefix: str | None = None
    skip_onnxsim: bool | None = None
    opset: Annotated[int, Field(ge=1)] | None = None


class InputParameters(Frozen):
    """One input of the model, and the files it is calibrated on."""

    input_name: str | None = None
    input_shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Expected("a list of sizes")] | None = None
    dtype: str | None = None
    file_type: Literal["img", "npy", "raw"] | None = None
    color_format: Literal["bgr", "rgb"] | None = None
    mean_value: Numbers | None = None
    std_value: Numbers | None = None
    preprocess_file: str | None = None
    data_list_path: str | None = None


class CalibrationParameters(Frozen):
    """How calibration goes; the list of inputs has two spellings."""

    calibration_step: Annotated[int, Field(ge=1)] | None = None
    calibration_batch_size: Annotated[int, Field(ge=1)] | None = None
    calibration_device: str | None = None
    calibration_type: CalibrationType | None = None
    input_parametres: tuple[InputParameters, ...] | None = None
    input_parameters: tuple[InputParameters, ...] | None = None

    @property
    def inputs_key(self) -> str:
        """The spelling that the file has."""
        return "input_parametres" if self.input_parametres is not None else "input_parameters"

    @property
    def inputs(self) -> tuple[InputParameters, ...]:
        """The entries, whatever their key."""
        return self.input_parametres or self.input_parameters or ()


class CustomSetting(Frozen):
    """What is different in the part of the graph between some tensors."""

    input_names: Names = ()
    output_names: Names = ()
    max_percentile: Percentile | None = None
    precision_level: Annotated[int, Field(ge=0, le=4), Expected("a level from 0 to 4")] | None = None
    calibration_type: CalibrationType | None = None


class QuantizationParameters(Frozen):
    """What becomes integer, and how."""

    precision_level: Level | None = None
    finetune_level: Annotated[int, Field(ge=0, le=3), Expected("0, 1, 2 or 3")] | None = None
    auto_finetune_level: Annotated[int, Field(ge=0, le=3), Expected("0, 1, 2 or 3")] | None = None
    analysis_enable: bool | None = None
    max_percentile: Percentile | None = None
    calibration_type: CalibrationType | None = None
    custom_setting: tuple[CustomSetting, ...] | None = None
    truncate_var_names: Names | None = None
    ignore_op_types: Names | None = None
    ignore_op_names: Names | None = None


class XquantConfig(Frozen):
    """A whole configuration."""

    model_parameters: ModelParameters
    calibration_parameters: CalibrationParameters = CalibrationParameters()
    quantization_parameters: QuantizationParameters = QuantizationParameters()


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration and where its keys stand.

    Attributes:
        where: names the file in messages.
        config: what it says.
        unknown: a sentence for each key that it does not know.
        line_of: gives the line of a key path.
    """

    where: str
    config: XquantConfig
    unknown: tuple[str, ...]
    line_of: LineOf

    def error(self, path: KeyPath, text: str, *, hint: str = "") -> ConfigError:
        """Return the error that says what is wrong with a key; one that is missing has the line of what it is in."""
        lines = (self.line_of(path[:length]) for length in range(len(path), -1, -1))
        line = next((line for line in lines if line is not None), None)
        return ConfigError(KeyFault(path, line, text).sentence(self.where), hint=hint)


def read_config(path: Path) -> ConfigFile:
    """Read a configuration. An empty text or null stands for a key that is not there, as in those tools.

    Raises:
        NotFoundError: there is no such file.
        DiskError: it cannot be read.
        ConfigError: it is no JSON, or a value is of the wrong kind; all such faults, one a line.
    """
    where = str(path)
    text = plain_json(read_text(path, where=where))
    line_of = json_line_of(text)
    data = parse_json(text, where=where)
    known = _KnownKeys(where, line_of)
    if isinstance(data, Mapping):
        data = known.of(XquantConfig, data, ())
    config, faults = checked(XquantConfig, data, line_of=line_of)
    found = [*faults, *(_contradictions(config, line_of) if config is not None else ())]
    if config is None or found:
        raise config_error(where, found)
    return ConfigFile(where, config, tuple(known.unknown), line_of)


class _KnownKeys:
    """Takes out of a configuration what no model has, and what stands for nothing."""

    def __init__(self, where: str, line_of: LineOf) -> None:
        self._where, self._line_of = where, line_of
        self.unknown: list[str] = []

    def of(self, model: type[BaseModel], data: Mapping[str, object], path: KeyPath) -> dict[str, object]:
        """Return the keys that a model has; each other one leaves a sentence in `unknown`."""
        kept: dict[str, object] = {}
        for key, value in data.items():
            at = (*path, key)
            if key not in model.model_fields:
                text = f"unknown key, passed over{did_you_mean(key, model.model_fields)}"
                self.unknown.append(KeyFault(at, self._line_of(at), text).sentence(self._where))
            elif value is not None and value != "":
                kept[key] = self._within(_SECTIONS.get(key), value, at)
        return kept

    def _within(self, model: type[BaseModel] | None, value: object, path: KeyPath) -> object:
        if model is not None and isinstance(value, Mapping):
            return self.of(model, value, path)
        if model is not None and isinstance(value, list):
            return [self._within(model, item, (*path, at)) for at, item in enumerate(value)]
        return value


_SECTIONS: Mapping[str, type[BaseModel]] = {
    "model_parameters": ModelParameters,
    "calibration_parameters": CalibrationParameters,
    "quantization_parameters": QuantizationParameters,
    "input_parametres": InputParameters,
    "input_parameters": InputParameters,
    "custom_setting": CustomSetting,
}


def _contradictions(config: XquantConfig, line_of: LineOf) -> Iterator[KeyFault]:
    """Yield a fault for each key that says what another one says differently."""
    pairs: tuple[tuple[KeyPath, Any, KeyPath, Any], ...] = (
        (
            ("calibration_parameters", "input_parametres"),
            config.calibration_parameters.input_parametres,
            ("calibration_parameters", "input_parameters"),
            config.calibration_parameters.input_parameters,
        ),
        (
            ("quantization_parameters", "auto_finetune_level"),
            config.quantization_parameters.auto_finetune_level,
            ("quantization_parameters", "finetune_level"),
            config.quantization_parameters.finetune_level,
        ),
        (
            ("quantization_parameters", "calibration_type"),
            config.quantization_parameters.calibration_type,
            ("calibration_parameters", "calibration_type"),
            config.calibration_parameters.calibration_type,
        ),
    )
    for path, value, other, others in pairs:
        if value is not None and others is not None and value != others:
            yield KeyFault(path, line_of(path), f"says something else than {shown(other)}; expected one of both")
