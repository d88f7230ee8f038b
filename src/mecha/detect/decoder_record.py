"""A decoder as JSON, so that it can be made again without the graph it was planned from."""

import importlib
from typing import Any

import numpy as np

from mecha.detect.decode.candidates import Decoder

_OURS = ("mecha.detect.decode.", "mecha.graph.")
_PLAIN = (bool, int, float, str)


class UnreadableRecordError(Exception):
    """The record is of something else, or of another version of the code."""


def record_of(decoder: Decoder) -> dict[str, Any] | None:
    """Return what makes a decoder again; None where it holds what JSON cannot say."""
    try:
        record: dict[str, Any] = _record(decoder)
    except UnreadableRecordError:
        return None
    return record


def decoder_of(record: object) -> Decoder:
    """Make the decoder of a record again. Only classes of mecha are made.

    Raises:
        UnreadableRecordError: the record is no decoder of this version.
    """
    try:
        decoder: Decoder = _value(record)
    except (KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise UnreadableRecordError(str(error)) from error
    if not callable(getattr(decoder, "candidates", None)):
        raise UnreadableRecordError(f"got {type(decoder).__name__}; expected a decoder")
    return decoder


def _record(value: Any) -> Any:  # noqa: ANN401 - whatever a decoder holds
    if value is None or type(value) in _PLAIN:
        return value
    if type(value) is tuple:
        return {"tuple": [_record(item) for item in value]}
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return {"array": value.tolist(), "dtype": value.dtype.name, "shape": list(value.shape)}
    kind = type(value)
    if not kind.__module__.startswith(_OURS) or "." in kind.__qualname__:
        raise UnreadableRecordError(f"got a {kind.__qualname__}")
    state = {name: _record(getattr(value, name)) for name in _attributes(value)}
    return {"class": kind.__qualname__, "module": kind.__module__, "state": state}


def _attributes(value: object) -> list[str]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) if name != "__weakref__"]
    return [*slots, *getattr(value, "__dict__", {})]


def _value(record: Any) -> Any:  # noqa: ANN401 - see _record
    if record is None or type(record) in _PLAIN:
        return record
    if "tuple" in record:
        return tuple(_value(item) for item in record["tuple"])
    if "array" in record:
        return np.array(record["array"], dtype=record["dtype"]).reshape(record["shape"])
    if not record["module"].startswith(_OURS):
        raise ValueError(f"got a class of {record['module']}")
    kind = getattr(importlib.import_module(record["module"]), record["class"])
    made = kind.__new__(kind)
    for name, item in record["state"].items():
        # Past a frozen dataclass's own assignment, which refuses.
        object.__setattr__(made, name, _value(item))
    return made
