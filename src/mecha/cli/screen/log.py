"""The log on the screen: lines as they came, filtered, and the part of them that is seen."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_RANKS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 3}
_LINE = re.compile(r"\[([A-Z]+)\] ([^:\s]+):(?: |$)(.*)", re.DOTALL)
# What would move the cursor or colour what is not its own: sequences of a terminal, ...
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
# ... single control characters, and those that turn the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
KEPT = 5000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log of a node.

    Attributes:
        number: counts the lines of a run, from 0.
        node: "" for a line without a prefix.
        text: what follows the prefix, without control characters.
    """

    number: int
    level: str
    node: str
    text: str

    @property
    def prefix(self) -> str:
        """As the plain log writes it."""
        return f"[{self.level}] {self.node}: " if self.node else ""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines are shown.

    Attributes:
        node: of this node only; "" for all.
        level: from this level up.
        text: that hold this text, in upper or lower case.
    """

    node: str = ""
    level: str = "DEBUG"
    text: str = ""

    def lets(self, line: LogLine) -> bool:
        """Tell whether a line is shown."""
        if self.node and line.node != self.node:
            return False
        if _RANKS.get(line.level, 1) < _RANKS[self.level]:
            return False
        return not self.text or self.text.casefold() in (line.prefix + line.text).casefold()

    @property
    def next_level(self) -> str:
        """The level that follows this one: INFO, WARNING, ERROR, and everything again."""
        return LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]


class Log:
    """The last lines of a run.

    Attributes:
        filter: what is shown.
        bottom: number of the last line that is seen; None follows the newest.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._lines: deque[LogLine] = deque(maxlen=kept)
        self._count = 0
        self.filter = LogFilter()
        self.bottom: int | None = None

    def add(self, text: str) -> None:
        """Take one line, with the prefix that `mecha.runtime.events.prefixed` gives it or without."""
        found = _LINE.fullmatch(clean(text))
        level, node, said = found.groups() if found else ("INFO", "", clean(text))
        self._lines.append(LogLine(self._count, level, node, said))
        self._count += 1

    def seen(self, count: int) -> list[LogLine]:
        """Return up to `count` lines that are seen, the oldest first; fewer only where there are no more."""
        newest = list(islice(self._shown(self.bottom), count))[::-1]
        if self.bottom is None or len(newest) == count:
            return newest
        # The filter or the size has changed, or the oldest lines are gone: fill the window from below.
        return list(islice(self._shown_forward(), count))

    @property
    def newer(self) -> int:
        """How many lines there are below those that are seen."""
        return sum(1 for _ in self._above(self.bottom)) if self.bottom is not None else 0

    def page_up(self, count: int) -> None:
        """See the lines before those that are seen."""
        seen = self.seen(count)
        older = list(islice(self._shown(seen[0].number), count)) if seen else []
        # The window stays full: its last line is at least the `count`th.
        if len(older) > 1:
            first = list(islice(self._shown_forward(), count))
            self.bottom = max(older[0].number, first[-1].number)

    def page_down(self, count: int) -> None:
        """See the lines after those that are seen; at the end, follow again."""
        if self.bottom is None:
            return
        newer = list(islice(self._above(self.bottom), count + 1))
        self.bottom = newer[count - 1].number if len(newer) > count else None

    def oldest(self, count: int) -> None:
        """See the oldest lines."""
        first = list(islice(self._shown_forward(), count))
        self.bottom = first[-1].number if len(first) == count else None

    def newest(self) -> None:
        """Follow the newest lines."""
        self.bottom = None

    def last(self, count: int, level: str) -> list[LogLine]:
        """Return the newest lines from a level up, the oldest first, whatever the filter says."""
        above = LogFilter(level=level)
        found = (line for line in reversed(self._lines) if above.lets(line))
        return list(islice(found, count))[::-1]

    def _shown(self, until: int | None) -> Iterator[LogLine]:
        """Give the lines that the filter lets, up to a number, the newest first."""
        for line in reversed(self._lines):
            if (until is None or line.number <= until) and self.filter.lets(line):
                yield line

    def _shown_forward(self) -> Iterator[LogLine]:
        return (line for line in self._lines if self.filter.lets(line))

    def _above(self, number: int) -> Iterator[LogLine]:
        return (line for line in self._lines if line.number > number and self.filter.lets(line))


def clean(text: str) -> str:
    """Return a text that moves no cursor: tabs are spaces, sequences of a terminal are gone, other controls are `?`."""
    return _CONTROL.sub("?", _SEQUENCE.sub("", text.expandtabs(4)))
