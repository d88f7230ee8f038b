import json

import pytest

from mecha.quantize.xquant.commented_json import plain_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1} // end', {"a": 1}),
        ('{"a": 1, # one\n "b": 2}', {"a": 1, "b": 2}),
        ('{/* two\nlines */ "a": [1, 2,], }', {"a": [1, 2]}),
        ('["http://x/#y", "/* no */", ",]", "\\"//"]', ["http://x/#y", "/* no */", ",]", '"//']),
        ('{"a": [1, // last\n ], /* b */ }', {"a": [1]}),
        ("[]", []),
    ],
)
def test_comments_and_trailing_commas_are_left_out(text: str, value: object) -> None:
    assert json.loads(plain_json(text)) == value


def test_all_else_stays_where_it_was() -> None:
    text = '{ // comment\n "a": 1, /* x\n y */ "b": 2,\n}'
    plain = plain_json(text)
    assert len(plain) == len(text)
    assert plain.splitlines()[2].index('"b"') == text.splitlines()[2].index('"b"')
