"""Small pieces of the sentences people read: the word they meant, lists with "or", values, sizes and times."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

_LONGEST_VALUE_SHOWN = 60
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh]?)", re.ASCII)
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
# Control characters, ends of lines, turns of the writing direction, and halves of a pair, which no encoding can write.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a person most likely meant, or None when none is close."""
    from difflib import get_close_matches

    by_folded = {candidate.casefold(): candidate for candidate in sorted(known, reverse=True)}
    matches = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "X"?` for the nearest known word, or nothing."""
    match = nearest(word, known)
    return f'; did you mean "{match}"?' if match is not None else ""


def alternatives(words: Sequence[str]) -> str:
    """Join words as people do: `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def printable(text: str) -> str:
    """Return a text of somebody else without the signs that would move the cursor, or break the line, of a terminal."""
    return _CONTROLS.sub(" ", text).strip()


def is_printable(text: str) -> bool:
    """Tell whether a text is one line that a terminal shows as it is."""
    return _CONTROLS.search(text) is None


def encodable(text: str) -> str:
    r"""Return a text that UTF-8 can hold: of a file name, bytes that are none as `\udce4`, as Python shows them."""
    return text.encode(errors="backslashreplace").decode()


def counted(count: int, noun: str) -> str:
    """Write a number with its noun: `1 photo`, `3 photos`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def written(value: object) -> str:
    """Write a value as it stands in a file; a long one is cut, a list or a table is only named."""
    if isinstance(value, Mapping):
        return "a table of keys"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE_SHOWN else f"{text[:_LONGEST_VALUE_SHOWN]}…"


def size_words(size_bytes: int) -> str:
    """Write a size as people do: `12.8 MB`, 1 MB being 10^6 bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        # 999 950 bytes are 1.0 MB, not 1000.0 kB.
        if size_bytes >= factor * 0.99995:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def seconds(text: str) -> float | None:
    """Return the seconds of "30s", "5m", "1h" or "30", None where a text is no time."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS_S[match[2]] if match else None
