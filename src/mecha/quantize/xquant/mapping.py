"""From the keys of a configuration to what mecha builds, and what is different here, in one line each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mecha.quantize.options import RangeChoice, StaticOptions
from mecha.quantize.xquant.config import DEFAULT_PERCENTILE, CalibrationType, ConfigFile, CustomSetting
from mecha.quantize.xquant.parts import Parts, Truncation
from mecha.words import counted

# Ours by theirs.
RANGES: Mapping[CalibrationType, str] = {
    "default": "auto",
    "kl": "entropy",
    "minmax": "minmax",
    "percentile": "percentile",
    "mse": "mse",
}
DYNAMIC_LEVEL = 3
_SENSITIVE_LEVEL = 2
# Of a part of the graph, from which on it stays float.
_FLOAT_LEVEL = 2
_FEWEST_STEPS, _MOST_STEPS = 10, 1000


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a configuration asks for.

    Attributes:
        dynamic: INT8 whose activations are quantized anew in every run; needs no calibration.
        notes: what mecha does differently, a sentence for each key that it is about.
    """

    options: StaticOptions
    dynamic: bool
    notes: tuple[str, ...]


def mapped(file: ConfigFile, parts: Parts) -> Mapped:
    """Return what a configuration asks for.

    Raises:
        ConfigError: it names what the model does not have, or a truncation that does not split it.
    """
    quantization = file.config.quantization_parameters
    excluded, absent = parts.ignored()
    level = quantization.precision_level or 0
    finetune = _finetune_level(file)
    kind = _calibration_type(file)
    truncation = parts.truncation()
    islands: set[str] = set(excluded)
    if level == _SENSITIVE_LEVEL:
        islands.update(parts.sensitive())
    choices: dict[str, RangeChoice] = {}
    for at, setting in enumerate(quantization.custom_setting or ()):
        nodes = parts.between(at)
        if (setting.precision_level or 0) >= _FLOAT_LEVEL:
            islands.update(node.name for node in nodes)
        elif (choice := _choice(setting)) is not None:
            choices.update({name: choice for node in nodes for name in node.output})
    options = StaticOptions(
        range=RANGES[kind],
        percentile=_percent(quantization.max_percentile or DEFAULT_PERCENTILE),
        tensor_ranges=choices,
        exclude_nodes=tuple(sorted(islands)),
        truncate=truncation.names,
        rounding=finetune > 0,
        bias_correction=finetune > 0,
    )
    return Mapped(
        options,
        level == DYNAMIC_LEVEL,
        (*absent, *_truncation_notes(truncation, islands), *_notes(file, kind, level, finetune)),
    )


def _finetune_level(file: ConfigFile) -> int:
    quantization = file.config.quantization_parameters
    given = (quantization.finetune_level, quantization.auto_finetune_level)
    return next((level for level in given if level is not None), 1)


def _calibration_type(file: ConfigFile) -> CalibrationType:
    config = file.config
    return (
        config.quantization_parameters.calibration_type or config.calibration_parameters.calibration_type or "default"
    )


def _choice(setting: CustomSetting) -> RangeChoice | None:
    """Return how the ranges of a part are found; None where as everywhere."""
    kind, share = setting.calibration_type, setting.max_percentile
    if kind is None and share is None:
        return None
    # A percentile that nothing would take is no wish: alone it asks for the method that takes it.
    method = "percentile" if kind is None else RANGES[kind]
    return RangeChoice(None if method == "auto" else method, _percent(share or DEFAULT_PERCENTILE))


def _percent(share: float) -> float:
    return share * 100


def _notes(file: ConfigFile, kind: CalibrationType, level: int, finetune: int) -> Iterator[str]:
    model, calibration, quantization = (
        file.config.model_parameters,
        file.config.calibration_parameters,
        file.config.quantization_parameters,
    )
    if model.skip_onnxsim is not None:
        yield "skip_onnxsim: mecha writes the graph as it is, and folds arithmetic on shapes to calibrate only"
    if (calibration.calibration_device or "cpu") != "cpu":
        yield f"calibration_device: {calibration.calibration_device} is not used; mecha calibrates on the CPU"
    if (calibration.calibration_batch_size or 1) > 1:
        yield "calibration_batch_size: files are looked at one by one, which finds the same ranges"
    for dtype in dict.fromkeys(entry.dtype for entry in calibration.inputs if entry.dtype not in (None, "float32")):
        yield f"dtype: {dtype} is not used; inputs are float32"
    steps = calibration.calibration_step
    if steps is not None and not _FEWEST_STEPS <= steps <= _MOST_STEPS:
        yield f"calibration_step: {steps} is unusual; {_FEWEST_STEPS} to {_MOST_STEPS} files are"
    if level == DYNAMIC_LEVEL:
        yield "precision_level: 3 is dynamic INT8; what says how ranges are found, or what stays float, is not used"
        return
    if quantization.calibration_type or calibration.calibration_type:
        yield f"calibration_type: {kind} is mecha's range {_range_words(kind)}"
    if quantization.max_percentile is not None and kind not in ("percentile", "default"):
        yield f"max_percentile: not used by calibration_type {kind}"
    yield _level_words(level)
    yield _finetune_words(finetune)
    for setting in quantization.custom_setting or ():
        yield f"custom_setting: {_setting_words(setting)}"


def _truncation_notes(truncation: Truncation, islands: set[str]) -> Iterator[str]:
    around = [name for name in truncation.around if name not in islands]
    if around:
        yield (
            f"truncate_var_names: {', '.join(truncation.outputs)} is still reachable past them; the "
            f"{counted(len(around), 'Conv')} on the way, from {around[0]} to {around[-1]}, are integer but for the "
            "last of each branch, where xquant leaves them float"
        )


def _range_words(kind: CalibrationType) -> str:
    ours = f'"{RANGES[kind]}"'
    return f"{ours}, chosen by the error that it causes" if kind == "default" else ours


def _level_words(level: int) -> str:
    besides = {
        _SENSITIVE_LEVEL: "; so do Softmax, Sigmoid, and Mul, Add, Sub and Div of two computed tensors",
    }.get(level, "")
    return (
        f"precision_level: {level}; the first and last Convs, what follows the last ones, and blocks that measuring "
        f"shows to do most harm stay float{besides}"
    )


def _finetune_words(level: int) -> str:
    if level == 0:
        return "finetune_level: 0; weights are rounded to the nearest integers, biases are not corrected"
    return f"finetune_level: {level}; weights are rounded by reconstruction and biases corrected, without labels"


def _setting_words(setting: CustomSetting) -> str:
    part = f"the part that ends at {', '.join(setting.output_names)}"
    if (setting.precision_level or 0) >= _FLOAT_LEVEL:
        return f"{part} stays float (precision_level {setting.precision_level})"
    choice = _choice(setting)
    if choice is None:
        return f"{part} is as the rest"
    if choice.method is None:
        return f"{part} has ranges chosen as everywhere"
    exact = f" {choice.percentile:g}" if choice.method == "percentile" else ""
    return f'the ranges of {part} are found by "{choice.method}"{exact}'
