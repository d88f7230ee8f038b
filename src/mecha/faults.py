"""What is wrong with a file: from the errors of pydantic to a key, its line, what it has and what it should have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mecha.positions import KeyPath, LineOf, shown
from mecha.words import alternatives, did_you_mean, written

_TYPES = {
    "bool": ("true", "false"),
    "date": ("a date",),
    "dict": ("a table of keys",),
    "float": ("a number",),
    "int": ("a whole number",),
    "int_from_float": ("a whole number",),
    "list": ("a list",),
    "mapping": ("a table of keys",),
    "model": ("a table of keys",),
    "model_attributes": ("a table of keys",),
    "none": ("null",),
    "path": ("a path",),
    "string": ("text",),
    "tuple": ("a list",),
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
_LENGTHS = {
    "string_too_long": ("at most", "max_length", "characters"),
    "string_too_short": ("at least", "min_length", "characters"),
    "too_long": ("at most", "max_length", "items"),
    "too_short": ("at least", "min_length", "items"),
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a field takes, in the user's words: `Annotated[str, Expected("a name")]`."""

    words: str


@dataclass(frozen=True, slots=True)
class KeyFault:
    """One fault of a file.

    Attributes:
        path: the key it is about.
        line: 1-based, None when unknown.
        text: what is wrong with it.
    """

    path: KeyPath
    line: int | None
    text: str

    def sentence(self, where: str) -> str:
        """Write the fault as one line; `where` names the file."""
        place = where if self.line is None else f"{where}:{self.line}"
        return f"{place}: {shown(self.path)}: {self.text}" if self.path else f"{place}: {self.text}"


def faults_of(
    error: ValidationError, model: type[BaseModel], data: object, line_of: LineOf, prefix: KeyPath
) -> Iterable[KeyFault]:
    """Give one fault for each key that pydantic complains about; arguments as in `validation.validated`."""
    grouped: dict[KeyPath, list[ErrorDetails]] = {}
    branches: set[KeyPath] = set()
    for details in error.errors(include_url=False):
        path, through_union = _path_in_file(details, data)
        grouped.setdefault(path, []).append(details)
        branches.update(path[:length] for length in through_union)
    for path, group in grouped.items():
        deeper = any(other[: len(path)] == path and len(other) > len(path) for other in grouped)
        if path in branches and deeper:
            continue  # a list with a wrong element: that the value is not text either helps nobody
        full = (*prefix, *path)
        yield KeyFault(full, _line(full, line_of), _text(model, path, group))


def _path_in_file(details: ErrorDetails, data: object) -> tuple[KeyPath, tuple[int, ...]]:
    """Return the key path of an error without the names pydantic gives to the branches of a union.

    Also returns the lengths of the path at which a union was passed.
    """
    path: list[str | int] = []
    unions: list[int] = []
    for position, part in enumerate(details["loc"]):
        last = position == len(details["loc"]) - 1
        if isinstance(data, Mapping) and (part in data or (last and details["type"] == "missing")):
            data = data.get(part)
            path.append(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
            path.append(part)
        else:
            unions.append(len(path))
    return tuple(path), tuple(unions)


def _line(path: KeyPath, line_of: LineOf) -> int | None:
    """Return the line of a key, or of the nearest table around it: a missing key has no line."""
    for length in range(len(path), -1, -1):
        line = line_of(path[:length])
        if line is not None:
            return line
    return None


def _text(model: type[BaseModel], path: KeyPath, group: list[ErrorDetails]) -> str:
    first = group[0]
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return f"unknown key{did_you_mean(str(path[-1]), known)}"
    if first["type"] == "fault":
        return first["msg"]
    annotations = _walk(model, path)
    words = _stated(annotations)
    if first["type"] == "missing":
        choices = words or _choices(annotations)
        return f"missing; expected {alternatives(choices)}" if choices else "missing"
    expected = words or list(dict.fromkeys(word for details in group for word in _expected_words(details)))
    return f"got {written(first['input'])}; expected {alternatives(expected)}"


def _expected_words(details: ErrorDetails) -> tuple[str, ...]:
    """Return what pydantic expected, as alternatives in plain words."""
    kind = details["type"]
    context = details.get("ctx", {})
    stem = kind.removesuffix("_type").removesuffix("_parsing")
    if kind in ("literal_error", "enum"):
        return tuple(context["expected"].replace(" or ", ", ").replace("'", "").split(", "))
    if stem in _TYPES:
        return _TYPES[stem]
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return (f"{words} {context[key]:g}",)
    if kind in _LENGTHS:
        words, key, unit = _LENGTHS[kind]
        not_empty = kind == "string_too_short" and context[key] == 1
        return ("text that is not empty" if not_empty else f"{words} {context[key]} {unit}",)
    if kind == "string_pattern_mismatch":
        return (f"text that matches {context['pattern']}",)
    return (details["msg"].removeprefix("Value error, ").removeprefix("Input should be "),)


def _flat(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - annotations have no common type
    """Return what an annotation allows: the members of a union, without Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _flat(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return tuple(member for argument in get_args(annotation) for member in _flat(argument))
    return (annotation,)


def _stated(annotations: Iterable[Any]) -> list[str]:
    """Return what the annotations themselves state as expected; an outer statement stands for all within it."""
    words: list[str] = []
    for annotation in annotations:
        own = [extra.words for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Expected)]
        within = get_args(annotation) if get_origin(annotation) in (Union, UnionType, Annotated) else ()
        words += own or _stated(within)
    return words


def _choices(annotations: Iterable[Any]) -> list[str]:
    members = [member for annotation in annotations for member in _flat(annotation)]
    return [str(value) for member in members if get_origin(member) is Literal for value in get_args(member)]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by the key that a file has."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _annotation(field: FieldInfo) -> Any:  # noqa: ANN401 - annotations have no common type
    """Return the whole annotation of a field: pydantic takes the outermost Annotated apart."""
    for marker in field.metadata:
        if isinstance(marker, Expected):
            return Annotated[field.annotation, marker]
    return field.annotation


def _walk(model: type[BaseModel], path: KeyPath) -> tuple[Any, ...]:
    """Return the annotations that a key path of a model can lead to."""
    annotations: tuple[Any, ...] = (model,)
    for part in path:
        found: list[Any] = []
        for member in (member for annotation in annotations for member in _flat(annotation)):
            if isinstance(member, type) and issubclass(member, BaseModel):
                fields = _fields(member)
                found += [_annotation(fields[part])] if isinstance(part, str) and part in fields else []
            elif get_args(member):
                found.append(get_args(member)[-1 if get_origin(member) is dict else 0])
        annotations = tuple(found)
    return annotations


def _keys_at(model: type[BaseModel], path: KeyPath) -> tuple[str, ...]:
    members = [member for annotation in _walk(model, path) for member in _flat(annotation)]
    return tuple(
        key
        for member in members
        if isinstance(member, type) and issubclass(member, BaseModel)
        for key in _fields(member)
    )
