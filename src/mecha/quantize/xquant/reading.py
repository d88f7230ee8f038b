"""What a calibration file holds: a picture, an array of numpy, or bare numbers."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mecha.detect.images import IMAGE_SUFFIXES, decode_image
from mecha.errors import IntegrityError
from mecha.quantize.photos import bytes_of
from mecha.quantize.xquant.config import InputParameters

_NUMBER_BYTES = 4


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture as (height, width, 3) uint8 BGR, turned upright.

    Raises:
        IntegrityError: it is none, or damaged.
        DiskError: it cannot be read.
    """
    return decode_image(bytes_of(path, what="a picture to calibrate on"), where=str(path))


def read_numbers(path: Path, file_type: str) -> NDArray[Any]:
    """Return the array in a file: of "npy" as it was saved, of "raw" float32 in one row.

    Raises:
        IntegrityError: it holds something else.
        DiskError: it cannot be read.
    """
    if file_type == "raw":
        data = bytes_of(path, what="numbers to calibrate on")
        if not data or len(data) % _NUMBER_BYTES:
            raise IntegrityError(f"{path}: got {len(data)} bytes; expected float32 numbers of {_NUMBER_BYTES} bytes")
        return np.frombuffer(data, dtype=np.float32)
    try:
        # Files that hold Python objects could run anything; only the user's own function may.
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IntegrityError(f"{path}: numpy cannot read it: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise IntegrityError(f"{path}: got no array of numbers; expected what numpy.save writes of one")
    return array


def check_readable(path: Path, entry: InputParameters) -> None:
    """Read a file once, to know that calibration can.

    Raises:
        IntegrityError: it is not of the kind that the entry names. What only the user's own function can read, a file
            of another ending than pictures have, is not looked at.
    """
    if entry.file_type in ("npy", "raw"):
        read_numbers(path, entry.file_type)
    elif entry.preprocess_file is None or path.suffix.lower() in IMAGE_SUFFIXES:
        read_picture(path)
