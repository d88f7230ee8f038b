"""On which line a key of a TOML or JSON text stands. Parsers give values only; a person needs the line.

Both scanners read texts that a parser has already accepted. Of any other text they report what they reached.
"""

import json
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable

KeyPath = tuple[str | int, ...]
LineOf = Callable[[KeyPath], int | None]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_TOML_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_TOML_SCALAR = re.compile(r"[^,\]}#\n]*")
_JSON_BLANK = re.compile(r"[ \t\r\n]*")
_STRINGS = {
    '"""': re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL),
    "'''": re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}


def toml_line_of(text: str) -> LineOf:
    """Return the function that gives the 1-based line of a key path in a TOML text, None for an unknown path."""
    return _lazy(text, lambda: _TomlScanner(text))


def json_line_of(text: str) -> LineOf:
    """Return the function that gives the 1-based line of a key path in a JSON text, None for an unknown path."""
    return _lazy(text, lambda: _JsonScanner(text))


def shown(path: KeyPath) -> str:
    """Write a key path as people read it: `models[2].quantize.method`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _lazy(text: str, scanner: Callable[[], "_Scanner"]) -> LineOf:
    """Scan when the first line is asked for: most texts have no fault."""
    found: dict[KeyPath, int] | None = None

    def line_of(path: KeyPath) -> int | None:
        nonlocal found
        if found is None:
            found = _lines(text, scanner().scan())
        return found.get(path)

    return line_of


def _lines(text: str, offsets: dict[KeyPath, int]) -> dict[KeyPath, int]:
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return {path: bisect_right(starts, offset) for path, offset in offsets.items()}


class _Scanner(ABC):
    """A cursor over a text that notes at which offset each key path starts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.offsets: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        try:
            self._document()
        except (IndexError, ValueError, RecursionError):
            # Only a text that the parser refused ends here; its first keys are still right.
            return self.offsets
        return self.offsets

    @abstractmethod
    def _document(self) -> None:
        """Go through the whole text."""

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(self.at)
        self.at = match.end()
        return match.group()

    def _take(self, expected: str) -> None:
        if not self.text.startswith(expected, self.at):
            raise ValueError(self.at)
        self.at += len(expected)

    def _peek(self, expected: str) -> bool:
        return self.text.startswith(expected, self.at)

    def _note(self, path: KeyPath, offset: int) -> None:
        self.offsets.setdefault(path, offset)


class _TomlScanner(_Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lengths: dict[KeyPath, int] = {}

    def _document(self) -> None:
        table: KeyPath = ()
        self._skip(_TOML_BLANK)
        while self.at < len(self.text):
            if self._peek("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_TOML_BLANK)

    def _header(self) -> KeyPath:
        start = self.at
        repeated = self._peek("[[")
        self._take("[[" if repeated else "[")
        keys = self._keys()
        self._take("]]" if repeated else "]")
        path: KeyPath = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if repeated and position == len(keys) - 1:
                self._note(path, start)
                self.lengths[path] = self.lengths.get(path, 0) + 1
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
            self._note(path, start)
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self.at
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, start)
        self._take("=")
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> tuple[str, ...]:
        keys = [self._key()]
        while self._peek("."):
            self._take(".")
            keys.append(self._key())
        return tuple(keys)

    def _key(self) -> str:
        import tomli

        self._skip(_SPACE)
        quoted = self.text[self.at] in "\"'"
        raw = self._skip(_STRINGS[self.text[self.at]] if quoted else _BARE_KEY)
        self._skip(_SPACE)
        return str(tomli.loads(f"key = {raw}")["key"]) if quoted else raw

    def _value(self, path: KeyPath) -> None:
        for quotes, pattern in _STRINGS.items():
            if self._peek(quotes):
                self._skip(pattern)
                return
        if self._peek("["):
            self._array(path)
        elif self._peek("{"):
            self._inline_table(path)
        else:
            self._skip(_TOML_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._take("[")
        self._skip(_TOML_BLANK)
        index = 0
        while not self._peek("]"):
            self._note((*path, index), self.at)
            self._value((*path, index))
            index += 1
            self._separator()
        self._take("]")

    def _inline_table(self, path: KeyPath) -> None:
        self._take("{")
        self._skip(_TOML_BLANK)
        while not self._peek("}"):
            self._pair(path)
            self._separator()
        self._take("}")

    def _separator(self) -> None:
        self._skip(_TOML_BLANK)
        if self._peek(","):
            self._take(",")
            self._skip(_TOML_BLANK)
        elif self.text[self.at] not in "]}":
            raise ValueError(self.at)


class _JsonScanner(_Scanner):
    def _document(self) -> None:
        self._skip(_JSON_BLANK)
        self._note((), self.at)
        self._value(())

    def _scalar(self) -> object:
        value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        return value

    def _value(self, path: KeyPath) -> None:
        if self._peek("{"):
            self._object(path)
        elif self._peek("["):
            self._array(path)
        else:
            self._scalar()
        self._skip(_JSON_BLANK)

    def _object(self, path: KeyPath) -> None:
        self._open("{")
        while not self._peek("}"):
            start = self.at
            key = (*path, str(self._scalar()))
            # Of a key that is written twice the parser keeps the last.
            self.offsets[key] = start
            self._skip(_JSON_BLANK)
            self._open(":")
            self._value(key)
            self._separator()
        self._take("}")

    def _array(self, path: KeyPath) -> None:
        self._open("[")
        index = 0
        while not self._peek("]"):
            self._note((*path, index), self.at)
            self._value((*path, index))
            index += 1
            self._separator()
        self._take("]")

    def _open(self, sign: str) -> None:
        self._take(sign)
        self._skip(_JSON_BLANK)

    def _separator(self) -> None:
        if self._peek(","):
            self._open(",")
        elif self.text[self.at] not in "]}":
            raise ValueError(self.at)
