"""Whatever a file or a request holds, it ends in a sentence: no traceback reaches a user.

`MECHA_FUZZ_EXAMPLES=20000 pytest tests/fuzz` tries more; `python -m tests.fuzz.with_atheris NAME` is led by coverage.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, run, seeds

EXAMPLES = int(os.environ.get("MECHA_FUZZ_EXAMPLES", "25"))
# What breaks readers: ends, quotes, depths, numbers without end, halves of pairs, ways out of a folder.
PIECES = [
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"'", b'"""', b"[", b"]" * 3, b"[" * 3000, b"{" * 3000,
    b"{'a':" * 1000, b"[[models]]\n", b"[a]\n", b"a.b.c = 1\n", b"1e999", b"-1", b"nan", b"inf", b"9" * 5000, b"null",
    b"true", b"../", b"/etc/passwd", b"..\\", b"%2e%2e/", b"%00", b"\\u0000", b"\\ud800", b"\\u001b[2J",
    b"\xed\xa0\x80", b"&a [*a]", b"*a", b"!!python/object/apply:os.system [x]", b"? x", b"--- ", b"1979-05-27",
    b"0x" + b"f" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x3a\x00", b"\x0a\x00" * 50, b"= ", b": ", b", ", b"#",
]  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """A kept input with a few of its bytes replaced, or bytes of no kind at all."""
    data = draw(st.sampled_from(seeds(name)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 0, 1, 2, 8, 64, len(data)]))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=8))
        data = data[:start] + piece + data[start + length :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_the_inputs_that_are_kept_end_in_a_sentence(name: str) -> None:
    assert seeds(name)
    for data in seeds(name):
        run(TARGETS[name], data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_changed_by_chance_ends_in_a_sentence(name: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES <= 25,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(name))
    def once(data: bytes) -> None:
        run(TARGETS[name], data)

    once()
