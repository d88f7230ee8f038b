"""Which names a model can have. A name becomes a folder, on every operating system."""

import re

NAME_WORDS = "a name of lower-case letters, digits, . _ and -, at most 64, starting with a letter or digit"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9_-])?")
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{digit}" for digit in range(10)), *(f"lpt{digit}" for digit in range(10))}
)


def is_model_name(name: str) -> bool:
    """Tell whether a text can name a model: no path parts, no hidden folder, no device of Windows."""
    return _NAME.fullmatch(name) is not None and name.split(".", maxsplit=1)[0] not in _WINDOWS_DEVICES
