"""`preprocess_file: "file.py:function"`: Python of the user's own, run to prepare calibration files."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mecha.errors import ConfigError, NotFoundError, QuantizationError
from mecha.words import did_you_mean

# What these tools call: paths of one batch, and the entry of the configuration. The result is a tensor of torch, an
# array, or anything else that numpy takes for one.
UserFunction = Callable[[Sequence[str], Mapping[str, Any]], Any]

_MODULE = "mecha_user_preprocess"


def load_function(file: Path, name: str) -> UserFunction:
    """Run a Python file and return one of its functions.

    Its folder is added to Python's path, as xquant does: such files import others beside them.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: it has no such function.
        QuantizationError: it raised something.
    """
    if not file.is_file():
        raise NotFoundError(f"{file}: no such file; expected Python with a function {name}(path_list, input_parametr)")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(_MODULE, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: is no Python file; expected one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise QuantizationError(f"{file}: cannot be imported: {_said(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f'{file}: got no function "{name}"{did_you_mean(name, known)}')
    return function  # type: ignore[no-any-return]  # checked to be callable


def call_function(function: UserFunction, path: Path, given: Mapping[str, Any], *, where: str) -> NDArray[np.float32]:
    """Return what the function makes of one file, as it came but for the type.

    Args:
        given: the entry of the configuration, as these tools hand it on.
        where: names the function in messages.

    Raises:
        QuantizationError: it raised something, or returned no numbers.
    """
    try:
        return np.asarray(function([str(path)], dict(given)), dtype=np.float32)
    except Exception as error:
        raise QuantizationError(f"{where}: got an exception for {path}: {_said(error)}") from error


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
