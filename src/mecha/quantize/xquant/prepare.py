"""From a calibration file to a tensor, as `preprocess_file`, `mean_value`, `std_value` and `color_format` say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mecha.detect.fitting import centre_crop, grey, padded, stretched
from mecha.errors import QuantizationError, UnsupportedModelError
from mecha.quantize.xquant.config import ConfigFile, InputParameters
from mecha.quantize.xquant.reading import read_numbers, read_picture
from mecha.quantize.xquant.slot import Slot, input_path
from mecha.quantize.xquant.user_function import call_function, load_function
from mecha.words import counted

Tensor = NDArray[np.float32]
Picture = NDArray[np.uint8]
Prepare = Callable[[Path], Tensor]

# The first two resize to 1 / 0.875 of the input and take the middle, as classification models are trained; the third
# is ours: xquant stretches where no function is named, and YOLO models are trained on padded pictures.
PRESETS = ("PT_IMAGENET", "IMAGENET", "YOLO_LETTERBOX")
_CROP_SHARE = 0.875
_IMAGE_RANK = 4
_COLOURS = 3


def preparation(file: ConfigFile, entry: InputParameters, slot: Slot, root: Path) -> Prepare:
    """Return what makes a tensor (1, ...) float32 of a file.

    Args:
        root: where a relative path of a Python file starts.

    Raises:
        NotFoundError: there is no such Python file.
        ConfigError: a key does not fit the model's input.
        UnsupportedModelError: the input takes no picture.
        QuantizationError: the Python file raised something.
    """
    chosen = entry.preprocess_file
    if chosen is not None and chosen not in PRESETS:
        return _by_function(file, entry, slot, root, chosen)
    if entry.file_type in ("npy", "raw"):
        kind = entry.file_type
        return lambda path: shaped(read_numbers(path, kind).astype(np.float32), slot, str(path))
    if len(slot.shape) != _IMAGE_RANK or slot.shape[1] not in (1, _COLOURS):
        raise UnsupportedModelError(
            f"{file.config.model_parameters.onnx_model}: got input {slot}; expected a picture [1, 3, height, width], "
            "or [1, 1, height, width] for grey",
            hint='Name tensors that are prepared already with "file_type": "npy", or a function in "preprocess_file".',
        )
    mean, std = _by_channel(file, entry, slot, "mean_value"), _by_channel(file, entry, slot, "std_value")
    if not std.all():
        raise file.error(input_path(file, "std_value"), "got 0; expected numbers to divide by")
    return Pictures(slot, chosen, entry.color_format == "rgb", mean, std)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Makes tensors of pictures.

    Attributes:
        preset: one of PRESETS; None stretches.
        rgb: channels in RGB order, otherwise BGR.
        mean, std: (channels,) or (1,): value = (pixel - mean) / std, in the tensor's channel order.
    """

    slot: Slot
    preset: str | None
    rgb: bool
    mean: Tensor
    std: Tensor

    def __call__(self, path: Path) -> Tensor:
        """Return the tensor (1, channels, height, width) of one picture."""
        picture = self._fitted(read_picture(path))
        if self.slot.shape[1] == 1:
            picture = grey(picture)
        elif self.rgb:
            picture = picture[:, :, ::-1]
        values = (picture.astype(np.float32) - self.mean) / self.std
        return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])

    def _fitted(self, picture: Picture) -> Picture:
        height, width = self.slot.shape[2:]
        match self.preset:
            case None:
                return stretched(picture, height, width)
            case "YOLO_LETTERBOX":
                return padded(picture, height, width)
            case preset:
                return centre_crop(picture, height, width, share=_CROP_SHARE, smooth=preset == "PT_IMAGENET")


def _by_function(file: ConfigFile, entry: InputParameters, slot: Slot, root: Path, chosen: str) -> Prepare:
    path, _, name = chosen.rpartition(":")
    if not path or not name:
        text = f'got "{chosen}"; expected {", ".join(PRESETS)}, or a function in a Python file: file.py:function'
        raise file.error(input_path(file, "preprocess_file"), text)
    function = load_function(root / path, name)
    given = _handed_on(entry, slot)
    return lambda sample: shaped(call_function(function, sample, given, where=chosen), slot, f"{chosen}: of {sample}")


def _handed_on(entry: InputParameters, slot: Slot) -> Mapping[str, Any]:
    """Return the entry as xquant hands it to a function, with what the model says where the entry is silent."""
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in entry.model_dump().items()}
    return {
        **given,
        "input_name": slot.name,
        "input_shape": list(slot.shape),
        "dtype": "float32",
        "file_type": entry.file_type or "img",
        "color_format": entry.color_format or "bgr",
    }


def _by_channel(file: ConfigFile, entry: InputParameters, slot: Slot, key: str) -> Tensor:
    """Return mean_value or std_value, (channels,) or (1,)."""
    numbers = entry.mean_value if key == "mean_value" else entry.std_value
    if numbers is None:
        return np.array([0 if key == "mean_value" else 1], dtype=np.float32)
    channels = slot.shape[1]
    if len(numbers) not in (1, channels):
        expected = "1" if channels == 1 else f"{channels}, one a channel"
        text = f"got {counted(len(numbers), 'number')}; expected {expected} of input {slot}"
        raise file.error(input_path(file, key), text)
    return np.array(numbers, dtype=np.float32)


def shaped(values: Tensor, slot: Slot, where: str) -> Tensor:
    """Return values that were prepared elsewhere as the input takes them; the batch of one may be missing.

    Args:
        where: names their origin in messages.

    Raises:
        QuantizationError: they are of another shape.
    """
    flat = (int(np.prod(slot.shape)),)
    if values.shape not in (slot.shape, slot.shape[1:], flat):
        raise QuantizationError(
            f"{where}: got an array of shape {list(values.shape)}; expected {list(slot.shape)}, as input {slot.name}"
        )
    return np.ascontiguousarray(values.reshape(slot.shape))
