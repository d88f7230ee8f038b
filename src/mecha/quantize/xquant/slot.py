"""The one input that calibration feeds, and the shape it is fed in."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mecha.errors import UnsupportedModelError
from mecha.graph.inspect import signature_of
from mecha.positions import KeyPath
from mecha.quantize.xquant.config import ConfigFile, InputParameters
from mecha.words import counted, did_you_mean

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.graph.inspect import TensorInfo

_IMAGE_RANK = 4
_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Slot:
    """An input of a model.

    Attributes:
        shape: of one calibration tensor; the first dimension, the batch, is 1.
    """

    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """`images [1, 3, 640, 640]`."""
        return f"{self.name} [{', '.join(map(str, self.shape))}]"


def input_path(file: ConfigFile, *keys: str) -> KeyPath:
    """Return the key path of the first input's entry, or of a key in it."""
    return ("calibration_parameters", file.config.calibration_parameters.inputs_key, 0, *keys)


def find_slot(model: "ModelProto", file: ConfigFile, *, where: str) -> tuple[Slot, InputParameters]:
    """Return the input of the model, and the entry of the configuration for it.

    Args:
        where: names the model in messages.

    Raises:
        UnsupportedModelError: the model has several inputs, or one that is no batch of floats.
        ConfigError: the configuration has no entry for it, or the entry is for another input.
    """
    signature = signature_of(model)
    if len(signature.inputs) != 1:
        seen = "; ".join(map(str, signature.inputs))
        raise UnsupportedModelError(
            f"{where}: got {counted(len(signature.inputs), 'input')} ({seen}); expected one: mecha calibrates models "
            "of one input"
        )
    model_input = signature.inputs[0]
    if model_input.dtype != "float32":
        raise UnsupportedModelError(f"{where}: got input {model_input}; expected float32")
    entry = _entry(file, model_input)
    return Slot(model_input.name, _shape(file, model_input, entry, signature.metadata_size)), entry


def _entry(file: ConfigFile, model_input: "TensorInfo") -> InputParameters:
    parameters = file.config.calibration_parameters
    listed = ("calibration_parameters", parameters.inputs_key)
    if not parameters.inputs:
        raise file.error(listed, f"missing; expected one entry, for input {model_input}")
    if len(parameters.inputs) > 1:
        raise file.error(listed, f"got {len(parameters.inputs)} entries; expected 1, for input {model_input}")
    entry = parameters.inputs[0]
    name = model_input.name
    if entry.input_name is not None and entry.input_name != name:
        near = did_you_mean(entry.input_name, [name]) or f'; its input is "{name}"'
        text = f'got "{entry.input_name}"; expected the name of an input of the model{near}'
        raise file.error(input_path(file, "input_name"), text)
    return entry


def _shape(
    file: ConfigFile, model_input: "TensorInfo", entry: InputParameters, metadata_size: tuple[int, int] | None
) -> tuple[int, ...]:
    """Return the shape of one calibration tensor: the model's own, its free sizes as the configuration says."""
    dims = model_input.shape
    if dims and _fixed(dims[0]) and dims[0] != 1:
        raise UnsupportedModelError(
            f"{file.config.model_parameters.onnx_model}: got input {model_input}; expected a batch of 1, or of any size"
        )
    path, given = input_path(file, "input_shape"), entry.input_shape
    if given is None and metadata_size is not None and len(dims) == _IMAGE_RANK:
        usual = (1, _CHANNELS, *metadata_size)
        given = tuple(int(dim) if _fixed(dim) else size for dim, size in zip(dims, usual, strict=True))
    if given is None:
        if not dims or not all(_fixed(dim) for dim in dims[1:]):
            raise file.error(path, f"missing; expected the shape that input {model_input} is calibrated in")
        return (1, *(int(dim) for dim in dims[1:]))
    pairs = list(zip(dims[1:], given[1:], strict=False))
    if len(given) != len(dims) or any(_fixed(dim) and dim != size for dim, size in pairs):
        raise file.error(path, f"got {list(given)}; expected a shape of input {model_input}")
    return (1, *given[1:])


def _fixed(dim: int | str) -> bool:
    return isinstance(dim, int) and dim > 0
