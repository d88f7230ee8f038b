"""The names of the files of a model: one part of a path each, on every operating system."""

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

FILE_NAME_WORDS = "the name of a file in the model's folder: letters, digits, . _ and -, without a path"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def is_file_name(name: str) -> bool:
    """Tell whether a text can name a file of a model: it leads nowhere else."""
    return _NAME.fullmatch(name) is not None


def _checked(value: object) -> object:
    if isinstance(value, str) and not is_file_name(value):
        raise PydanticCustomError("expected", "{words}", {"words": FILE_NAME_WORDS})
    return value


FileName = Annotated[str, BeforeValidator(_checked)]
"""A key of a manifest's `files`."""
