"""What a person reads when a file has faults, and on which line."""

import json
import string
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from mecha.errors import ConfigError, NotFoundError
from mecha.positions import KeyPath, shown
from mecha.validation import (
    Expected,
    Frozen,
    json_line_of,
    nearest,
    parse_json,
    parse_toml,
    read_text,
    toml_line_of,
    validated,
)


class Wheel(Frozen):
    radius_mm: Annotated[float, Field(gt=0)]
    side: Literal["left", "right"] = "left"


class Robot(Frozen):
    name: Annotated[str, Field(min_length=1)]
    use_int8: bool | Literal["auto"] = "auto"
    wheels: tuple[Wheel, ...] = ()
    labels: tuple[str, ...] | str | None = None
    legs: Annotated[int, Field(ge=0, le=8, multiple_of=2)] = 0
    tools: dict[str, Wheel] = Field(default_factory=dict)
    size: Annotated[tuple[int, ...], Field(min_length=2, max_length=2)] = (1, 1)
    code: Annotated[str, Field(pattern="^[a-z]+$"), Expected("lower-case letters")] = "a"


def faults(text: str, prefix: KeyPath = ()) -> str:
    data = parse_toml(text, where="robot.toml")
    for part in prefix:
        data = data[part]  # type: ignore[index]  # a key path fits its data
    with pytest.raises(ConfigError) as caught:
        validated(Robot, data, where="robot.toml", line_of=toml_line_of(text), prefix=prefix)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nam = 'r'\nname = 'r'", 'robot.toml:1: nam: unknown key; did you mean "name"?'),
        ("name = 'r'\nzzz = 1", "robot.toml:2: zzz: unknown key"),
        ("legs = 2", "robot.toml: name: missing"),
        ("name = 3", "robot.toml:1: name: got 3; expected text"),
        ("name = ''", 'robot.toml:1: name: got ""; expected text that is not empty'),
        ("name = 'r'\nuse_int8 = 'yes'", 'robot.toml:2: use_int8: got "yes"; expected true, false or auto'),
        ("name = 'r'\nuse_int8 = 1", "robot.toml:2: use_int8: got 1; expected true, false or auto"),
        ("name = 'r'\nlegs = 3", "robot.toml:2: legs: got 3; expected a multiple of 2"),
        ("name = 'r'\nlegs = 10", "robot.toml:2: legs: got 10; expected at most 8"),
        ("name = 'r'\nlegs = -2", "robot.toml:2: legs: got -2; expected at least 0"),
        ("name = 'r'\nlegs = 2.5", "robot.toml:2: legs: got 2.5; expected a whole number"),
        ("name = 'r'\nlegs = '2'", 'robot.toml:2: legs: got "2"; expected a whole number'),
        ("name = 'r'\nlegs = true", "robot.toml:2: legs: got true; expected a whole number"),
        ("name = 'r'\nlabels = ['a', 3]", "robot.toml:2: labels[1]: got 3; expected text"),
        ("name = 'r'\nlabels = 3", "robot.toml:2: labels: got 3; expected a list or text"),
        ("name = 'r'\nwheels = 3", "robot.toml:2: wheels: got 3; expected a list"),
        ("name = 'r'\nwheels = [3]", "robot.toml:2: wheels[0]: got 3; expected a table of keys"),
        ("name = 'r'\ncode = 'A'", 'robot.toml:2: code: got "A"; expected lower-case letters'),
        ("name = 'r'\nsize = [1]", "robot.toml:2: size: got a list; expected at least 2 items"),
        ("name = 'r'\nsize = [1, 2, 3]", "robot.toml:2: size: got a list; expected at most 2 items"),
        ("name = {a = 1}", "robot.toml:1: name: got a table of keys; expected text"),
        (
            "name = 'r'\n[[wheels]]\nradius_mm = 1\n[[wheels]]\nside = 'top'\nradius_mm = 0",
            'robot.toml:5: wheels[1].side: got "top"; expected left or right\n'
            "robot.toml:6: wheels[1].radius_mm: got 0; expected more than 0",
        ),
        (
            "name = 'r'\n[tools.arm]\nradius = 1",
            "robot.toml:2: tools.arm.radius_mm: missing\n"
            'robot.toml:3: tools.arm.radius: unknown key; did you mean "radius_mm"?',
        ),
        (
            "name = '" + "x" * 70 + "'\nlegs = '" + "x" * 70 + "'",
            'robot.toml:2: legs: got "' + "x" * 59 + "…; expected a whole number",
        ),
    ],
)
def test_a_fault_is_told_with_file_line_key_and_what_was_expected(text: str, sentence: str) -> None:
    assert faults(text) == sentence


def test_all_faults_of_a_file_are_told_in_the_order_of_its_lines() -> None:
    text = "[[robots]]\nlegs = 3\nnam = 'x'\nuse_int8 = 'no'\n"
    assert faults(text, ("robots", 0)).splitlines() == [
        "robot.toml:1: robots[0].name: missing",
        "robot.toml:2: robots[0].legs: got 3; expected a multiple of 2",
        'robot.toml:3: robots[0].nam: unknown key; did you mean "name"?',
        'robot.toml:4: robots[0].use_int8: got "no"; expected true, false or auto',
    ]


def test_a_missing_choice_is_told_with_the_choices() -> None:
    class Preset(Frozen):
        preset: Literal["yolo", "raw"]

    with pytest.raises(ConfigError) as caught:
        validated(Preset, {}, where="c.json", line_of=json_line_of("{}"))
    assert str(caught.value) == "c.json:1: preset: missing; expected yolo or raw"


def test_what_is_no_table_at_all_is_one_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        validated(Robot, [1], where="robot.json", line_of=json_line_of("[1]"))
    assert str(caught.value) == "robot.json:1: got a list; expected a table of keys"


def test_a_valid_file_becomes_a_typed_value() -> None:
    text = "name = 'r'\nuse_int8 = true\nlabels = ['a']\n[[wheels]]\nradius_mm = 3\n"
    robot = validated(Robot, parse_toml(text, where="r"), where="r", line_of=toml_line_of(text))
    assert robot == Robot(name="r", use_int8=True, labels=("a",), wheels=(Wheel(radius_mm=3),))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "c.json: the file is empty; expected JSON"),
        (" \n ", "c.json: the file is empty; expected JSON"),
        ('{"a": 1,\n "b": }', "c.json:2:7: not JSON: expecting value"),
        ('{"a": 1,\n}', "c.json:1:8: not JSON: illegal trailing comma"),
        ('{"a": [1,\n 2,\n ]}', "c.json:2:3: not JSON: illegal trailing comma"),
        ('{"a": 1\n "b": 2}', "c.json:2:2: not JSON: expecting ',' delimiter"),
        ("{'a': 1}", "c.json:1:2: not JSON: expecting property name enclosed in double quotes"),
    ],
)
def test_broken_json_is_told_with_line_and_column(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_json(text, where="c.json")
    assert str(caught.value) == sentence


def test_broken_toml_is_told_with_line_and_column() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml("a = 1\nb 2\n", where="c.toml")
    assert str(caught.value) == "c.toml:2:3: not TOML: expected '=' after a key in a key/value pair"


def test_a_file_is_read_without_the_mark_that_some_editors_write(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(file, where="c.json") == "{}"


def test_a_file_that_is_no_text_or_absent_is_told(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    with pytest.raises(NotFoundError) as absent:
        read_text(file, where="c.json")
    assert str(absent.value) == "c.json: no such file"
    file.write_bytes(b"ab\xff")
    with pytest.raises(ConfigError) as binary:
        read_text(file, where="c.json")
    assert (str(binary.value), binary.value.hint) == ("c.json: byte 2 is not UTF-8 text", "Save the file as UTF-8.")


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("yolo8n", ["yolov8n", "dfine-n"], "yolov8n"),
        ("YOLOV8N", ["yolov8n"], "yolov8n"),
        ("banana", ["yolov8n"], None),
        ("x", [], None),
        ("", ["yolov8n"], None),
    ],
)
def test_the_nearest_word_is_one_a_person_may_have_meant(word: str, known: list[str], expected: str | None) -> None:
    assert nearest(word, known) == expected


TOML = """\
# a comment with [brackets] and = signs
top = 1
"quoted.key" = '''
text with
[table] in it'''
dotted.a.b = [
  1, # one
  { x = 1, "y" = [ 2 ] },

  "]",
]
when = 1979-05-27 07:32:00

[server] # here
port = 8080
  [server.tls]
  cert = \"\"\"a \\" ] quote\"\"\"

[[models]]
name = "a"
[models.quantize]
method = 'x'
[[models]]
name = "b"
[[models.steps]]
n = 1
[[models.steps]]
n = 2
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("quoted.key",), 3),
        (("dotted", "a", "b"), 6),
        (("dotted", "a", "b", 0), 7),
        (("dotted", "a", "b", 1, "y", 0), 8),
        (("dotted", "a", "b", 2), 10),
        (("when",), 12),
        (("server",), 14),
        (("server", "port"), 15),
        (("server", "tls", "cert"), 17),
        (("models",), 19),
        (("models", 0), 19),
        (("models", 0, "quantize", "method"), 22),
        (("models", 1, "name"), 24),
        (("models", 1, "steps", 1, "n"), 28),
        (("models", 2), None),
        (("absent",), None),
    ],
)
def test_the_line_of_a_toml_key_is_where_it_is_written(path: KeyPath, line: int | None) -> None:
    parse_toml(TOML, where="t")
    assert toml_line_of(TOML)(path) == line


def test_the_line_of_a_json_key_is_where_it_is_written() -> None:
    text = '\n{"a": {"b": [1,\n {"c": "}"}]},\n "d\\"e": null,\n "d\\"e": 2}'
    line_of = json_line_of(text)
    assert [line_of(path) for path in [(), ("a",), ("a", "b", 1, "c"), ('d"e',), ("x",)]] == [2, 2, 3, 5, None]


def _paths(data: object, path: KeyPath = ()) -> list[KeyPath]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(found for key, value in items for found in _paths(value, (*path, key)))]


scalars = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.text(max_size=8), st.floats(allow_nan=False))
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)
tables = st.dictionaries(keys, values, max_size=4)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)


@unhurried
@given(tables)
def test_every_key_of_any_json_has_a_line(data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=1)
    line_of = json_line_of(text)
    lines = text.splitlines()
    for path in _paths(data)[1:]:
        line = line_of(path)
        assert line is not None
        if isinstance(path[-1], str):
            assert lines[line - 1].strip().startswith(json.dumps(path[-1]))


@unhurried
@given(tables)
def test_every_key_of_any_toml_has_a_line(data: dict[str, Any]) -> None:
    text = tomlkit.dumps(data)
    read = parse_toml(text, where="t")
    line_of = toml_line_of(text)
    assert [path for path in _paths(read)[1:] if line_of(path) is None] == []


@unhurried
@given(st.text(alphabet=string.printable, max_size=60))
def test_the_line_of_a_key_in_a_broken_text_is_unknown_and_never_an_exception(text: str) -> None:
    toml_line_of(text)(("a",))
    json_line_of(text)(("a",))


def test_a_key_path_is_written_as_people_read_it() -> None:
    assert shown(("models", 2, "quantize", "method")) == "models[2].quantize.method"
