"""Layered config.json."""

import os
from pathlib import Path

import pytest

from mecha.errors import ConfigError
from mecha.runtime.config import CONFIG_VARIABLE, Layer, NodeConfig, load_config, read_layers


class Limits(NodeConfig):
    low: float = 0.0
    high: float = 1.0


class Config(NodeConfig):
    """An example."""

    model: str
    use_int8: bool = False
    limits: Limits = Limits()
    tags: tuple[str, ...] = ()


COMMON = "configs/common/nodes/n/config.json"
ROBOT = "configs/robot/nodes/n/config.json"


def loaded(*texts: str) -> Config:
    wheres = (COMMON, ROBOT, "command line")
    return load_config(Config, [Layer(where, text.encode()) for where, text in zip(wheres, texts, strict=False)])


def fault_of(*texts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(*texts)
    return str(caught.value)


def test_a_later_layer_wins_key_by_key() -> None:
    config = loaded(
        '{"model": "a", "use_int8": true, "limits": {"low": 0.1, "high": 0.9}, "tags": ["x", "y"]}',
        '{"limits": {"high": 0.5}, "tags": ["z"]}',
        '{"model": "b"}',
    )

    assert config == Config(model="b", use_int8=True, limits=Limits(low=0.1, high=0.5), tags=("z",))


def test_an_absent_file_is_an_empty_layer() -> None:
    assert load_config(Config, [Layer(COMMON, b'{"model": "a"}'), Layer(ROBOT, None)]) == Config(model="a")


def test_an_unknown_key_names_the_nearest_and_its_line() -> None:
    sentence = f'{COMMON}:3: use_int9: unknown key; did you mean "use_int8"?'

    assert fault_of('{\n  "model": "a",\n  "use_int9": true\n}') == sentence


def test_all_faults_of_all_layers_are_told_each_with_its_file_and_line() -> None:
    assert fault_of(
        '{\n  "model": 1,\n  "limits": {\n    "low": "x"\n  }\n}',
        '{"limits": {"hihg": 1}}',
        '{"use_int8": 7}',
    ).splitlines() == [
        "command line:1: use_int8: got 7; expected true or false",
        f"{COMMON}:2: model: got 1; expected text",
        f'{COMMON}:4: limits.low: got "x"; expected a number',
        f'{ROBOT}:1: limits.hihg: unknown key; did you mean "high"?',
    ]


def test_the_layer_that_wins_is_the_one_at_fault() -> None:
    assert fault_of('{"model": 1}', '{"model": 2}') == f"{ROBOT}:1: model: got 2; expected text"


def test_a_missing_key_belongs_to_the_common_file() -> None:
    assert fault_of("{}", "{}") == f"{COMMON}:1: model: missing"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", f"{COMMON}: the file is empty; expected JSON"),
        (" \n ", f"{COMMON}: the file is empty; expected JSON"),
        ('{"model": "a",', f"{COMMON}:1:15: not JSON: expecting property name enclosed in double quotes"),
        ('{\n"model": "a"\n"use_int8": 1}', f"{COMMON}:3:1: not JSON: expecting ',' delimiter"),
        ("[1, 2]", f"{COMMON}:1: got [1, 2]; expected a table of keys, as in {{}}"),
        ("null", f"{COMMON}:1: got null; expected a table of keys, as in {{}}"),
    ],
)
def test_a_text_that_is_no_config_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    assert fault_of(text) == sentence


def test_bytes_that_are_no_text_are_refused_with_a_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Config, [Layer(COMMON, b'{"model": "\xff"}')])

    assert str(caught.value) == f"{COMMON}: byte 11 is not UTF-8 text"


def test_a_byte_order_mark_does_not_hide_the_line_of_a_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Config, [Layer(COMMON, b'\xef\xbb\xbf{\n"model": 1}')])

    assert str(caught.value) == f"{COMMON}:2: model: got 1; expected text"


def test_the_layers_are_the_files_and_the_command_line(tmp_path: Path) -> None:
    common, robot = tmp_path / COMMON, tmp_path / ROBOT
    common.parent.mkdir(parents=True)
    common.write_text('{"model": "a"}')

    layers = read_layers((common, robot), tmp_path, {CONFIG_VARIABLE: '{"model": "b"}'})

    assert layers == (
        Layer(COMMON, b'{"model": "a"}'),
        Layer(ROBOT, None),
        Layer("command line", b'{"model": "b"}'),
    )
    assert load_config(Config, layers).model == "b"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / COMMON).mkdir(parents=True)

    with pytest.raises(ConfigError) as caught:
        read_layers((tmp_path / COMMON,), tmp_path, os.environ)

    assert str(caught.value) == f"{COMMON}: cannot be read: is a directory"
