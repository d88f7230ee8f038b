"""Keys of a terminal: from bytes to names, and from names to what they ask for."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

ESCAPE, ENTER, BACKSPACE, CLEAR = "escape", "enter", "backspace", "ctrl-u"

_ESC = "\x1b"
_SEQUENCES = {
    "[A": "up", "[B": "down", "OA": "up", "OB": "down",
    "[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end", "[7~": "home", "[8~": "end",
    "[5~": "page-up", "[6~": "page-down",
}  # fmt: skip
_CONTROLS = {"\r": ENTER, "\n": ENTER, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x0c": "ctrl-l", "\x15": CLEAR}
_PASTE_BEGINS, _PASTE_ENDS = "[200~", "\x1b[201~"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its name, or the character it types. Pasted text is one key, so that it commands nothing."""

    name: str
    pasted: bool = False


class Action(Enum):
    """What a key asks for."""

    SELECT_PREVIOUS = auto()
    SELECT_NEXT = auto()
    INT8 = auto()
    PAUSE = auto()
    RESTART = auto()
    DEGRADE = auto()
    CALIBRATE = auto()
    ONLY_NODE = auto()
    LEVEL = auto()
    FIND = auto()
    WRAP = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()
    OLDEST = auto()
    NEWEST = auto()
    CLEAR = auto()
    HELP = auto()
    REDRAW = auto()
    QUIT = auto()


ACTIONS = {
    "up": Action.SELECT_PREVIOUS,
    "k": Action.SELECT_PREVIOUS,
    "down": Action.SELECT_NEXT,
    "j": Action.SELECT_NEXT,
    "i": Action.INT8,
    "p": Action.PAUSE,
    "r": Action.RESTART,
    "d": Action.DEGRADE,
    "c": Action.CALIBRATE,
    "n": Action.ONLY_NODE,
    "l": Action.LEVEL,
    "/": Action.FIND,
    "w": Action.WRAP,
    "page-up": Action.PAGE_UP,
    "page-down": Action.PAGE_DOWN,
    "home": Action.OLDEST,
    "end": Action.NEWEST,
    ESCAPE: Action.CLEAR,
    "?": Action.HELP,
    "h": Action.HELP,
    "ctrl-l": Action.REDRAW,
    "q": Action.QUIT,
}

HELP = (
    ("up down, k j", "choose a node"),
    ("i", "INT8, or FP32 again"),
    ("p", "pause the chosen node, or let it go on"),
    ("r", "restart the chosen node"),
    ("d", "degrading on purpose, on or off"),
    ("c", "self-calibration, off or on"),
    ("n", "log of the chosen node only, or of all"),
    ("l", "log from this level up: INFO, WARNING, ERROR, DEBUG"),
    ("/", "log lines that hold a text"),
    ("w", "long log lines whole, or cut"),
    ("PgUp PgDn", "back and forth in the log"),
    ("Home End", "oldest lines; newest, and follow"),
    ("Esc", "all of the log again"),
    ("Ctrl-L", "draw the screen again"),
    ("? h", "this help, or away with it"),
    ("q, Ctrl-C", "stop the nodes in order; again: at once"),
)
"""Keys and what they do, in the order in which the help shows them."""


class KeyDecoder:
    """Makes keys of what a terminal sends, however it is cut into pieces."""

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = ""

    @property
    def is_waiting(self) -> bool:
        """An escape has come, and it is not clear yet whether it is the key or begins a sequence: see `settle`."""
        return self._left.startswith(_ESC) and not self._left.startswith(_ESC + _PASTE_BEGINS)

    def feed(self, data: bytes) -> list[Key]:
        """Take what was read; returns the keys that are whole."""
        self._left += self._characters.decode(data)
        return list(self._take())

    def settle(self) -> list[Key]:
        """Say that nothing followed for a while: an escape that stands alone is the key."""
        if not self.is_waiting:
            return []
        alone, self._left = self._left == _ESC, ""
        return [Key(ESCAPE)] if alone else []

    def _take(self) -> Iterator[Key]:
        while self._left:
            if self._left[0] != _ESC:
                character, self._left = self._left[0], self._left[1:]
                name = _CONTROLS.get(character, character)
                if len(name) > 1 or name.isprintable():
                    yield Key(name)
                continue
            if self._left.startswith(_ESC + _PASTE_BEGINS):
                text, end, rest = self._left.removeprefix(_ESC + _PASTE_BEGINS).partition(_PASTE_ENDS)
                if not end:
                    return
                self._left = rest
                yield Key("".join(character for character in text if character.isprintable()), pasted=True)
                continue
            length = _sequence_length(self._left)
            if length is None:
                return
            sequence, self._left = self._left[1:length], self._left[length:]
            if length == 1:
                yield Key(ESCAPE)
            elif sequence in _SEQUENCES:
                yield Key(_SEQUENCES[sequence])


def _sequence_length(text: str) -> int | None:
    """Return how many characters belong to the escape at the beginning of a text, None while that is open."""
    if len(text) == 1:
        return None
    if text[1] == "O":
        return 3 if len(text) > 2 else None  # noqa: PLR2004 - ESC O and a letter
    if text[1] != "[":
        # Alt and a key is the key after an escape for a terminal; it is nothing here. Two escapes are two.
        return 1 if text[1] == _ESC else 2
    for index in range(2, len(text)):
        if "@" <= text[index] <= "~":
            return index + 1
    return None
