"""Keys of a terminal."""

import pytest

from mecha.cli.screen.keys import ACTIONS, HELP, Action, Key, KeyDecoder


def names(*pieces: bytes) -> list[str]:
    decoder = KeyDecoder()
    return [key.name for piece in pieces for key in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"q", ["q"]),
        (b"ip", ["i", "p"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA", ["up"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~", ["page-up", "page-down", "home", "end", "home", "end"]),
        (b"\r\n\x7f\x0c\x15", ["enter", "enter", "backspace", "ctrl-l", "ctrl-u"]),
        ("ü°".encode(), ["ü", "°"]),
        # Of no meaning here: F5, the mouse, Alt and a key, other control characters.
        (b"\x1b[15~\x1b[<0;3;4M\x1bx\x01\x00", []),
        # Never text, as the letter at the end of a sequence would be.
        (b"\x1b[1;5Cq", ["q"]),
    ],
)
def test_what_a_terminal_sends_is_keys(sent: bytes, expected: list[str]) -> None:
    assert names(sent) == expected
    assert names(*[bytes([one]) for one in sent]) == expected


def test_an_escape_that_nothing_follows_is_the_key() -> None:
    decoder = KeyDecoder()

    assert decoder.feed(b"\x1b") == []
    assert decoder.settle() == [Key("escape")]
    assert decoder.settle() == []
    assert decoder.feed(b"[A") == [Key("["), Key("A")]


def test_a_sequence_that_never_ends_is_forgotten() -> None:
    decoder = KeyDecoder()
    decoder.feed(b"\x1b[1;")

    assert decoder.settle() == []
    assert decoder.feed(b"q") == [Key("q")]


def test_pasted_text_is_one_key_and_no_command() -> None:
    decoder = KeyDecoder()

    assert decoder.feed(b"\x1b[200~rq") == []
    assert not decoder.is_waiting
    assert decoder.feed(b"\nq\x1b[201~i") == [Key("rqq", pasted=True), Key("i")]


def test_bytes_that_are_no_text_are_no_reason_to_end() -> None:
    assert names(b"\xff\xfeq") == ["\ufffd", "\ufffd", "q"]


def test_the_help_names_every_key_that_does_something() -> None:
    told = " ".join(keys for keys, _ in HELP).replace(",", "").split()
    shown = {"page-up": "PgUp", "page-down": "PgDn", "home": "Home", "end": "End", "escape": "Esc", "ctrl-l": "Ctrl-L"}

    assert sorted(told) == sorted([*(shown.get(name, name) for name in ACTIONS), "Ctrl-C"])
    assert set(ACTIONS.values()) == set(Action)
