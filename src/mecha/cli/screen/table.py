"""The nodes as a table: one line a node where there is room, two tables below each other on a narrow terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from mecha.cli.screen.marks import Marks
from mecha.cli.screen.state import NodeRow, Spread

_STATE_STYLES = {
    "running": "green",
    "ready": "green",
    "starting": "yellow",
    "paused": "yellow",
    "restarting": "yellow",
    "stopping": "yellow",
    "hung": "bold red",
    "failed": "bold red",
}
TIMES = "ms p50/p95"
"""Stands above the names of the second table."""
_SHORTEST_NAME = 8
_LONGEST_NAME = 32
_LEAST_NOTE = 16
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place of the table."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of every node.

    Attributes:
        width: in characters.
        cell: what a node has there; gets whether its figures are those of now.
        rank: columns of the highest rank go first where there is too little room.
        left: text stands at the left side; figures stand at the right.
    """

    title: str
    width: int
    cell: Callable[[NodeRow, bool], Cell]
    rank: int = 0
    left: bool = False


def _one_digit(value: float) -> str:
    # 99.95 would be written 100.0, which is a place more than it is worth.
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"  # noqa: PLR2004


def _state(row: NodeRow, _fresh: bool) -> Cell:
    return Cell(row.state, _STATE_STYLES.get(row.state, "dim"))


def _precision(row: NodeRow, _fresh: bool) -> Cell:
    return Cell(row.precision or _NONE)


def _dropped(row: NodeRow, _fresh: bool) -> Cell:
    return Cell(str(row.dropped), "yellow" if row.dropped else "")


def _restarts(row: NodeRow, _fresh: bool) -> Cell:
    return Cell(str(row.restarts), "yellow" if row.restarts else "")


def _spread_of(stage: str) -> Callable[[NodeRow, bool], Cell]:
    def cell(row: NodeRow, _fresh: bool) -> Cell:
        return Cell(spread_text(row.step if stage == "step" else row.stages.get(stage, Spread())))

    return cell


def _note(row: NodeRow, _fresh: bool) -> Cell:
    return Cell(row.note, "red" if row.state in {"failed", "hung"} else "yellow")


def _now(figure: Callable[[NodeRow], float | None], words: Callable[[float], str]) -> Callable[[NodeRow, bool], Cell]:
    """Return a cell with a figure that holds for this moment only."""

    def cell(row: NodeRow, fresh: bool) -> Cell:
        value = figure(row) if fresh else None
        return Cell(_NONE if value is None else words(value))

    return cell


_DOING = (
    Column("STATE", 10, _state, left=True),
    Column("PREC", 4, _precision, rank=1, left=True),
    Column("IN/s", 5, _now(lambda row: row.fps_in, _one_digit), rank=3),
    Column("OUT/s", 5, _now(lambda row: row.fps_out, _one_digit), rank=2),
    Column("DROPPED", 7, _dropped, rank=4),
    Column("RST", 3, _restarts, rank=7),
    Column("MEMORY", 7, _now(lambda row: row.rss_mb, "{:.0f} MB".format), rank=5),
    Column("CPU", 5, _now(lambda row: row.cpu_percent, "{:.0f} %".format), rank=6),
)
_TIMES = (
    Column("STEP", 11, _spread_of("step")),
    Column("PRE", 9, _spread_of("pre"), rank=2),
    Column("SESSION", 11, _spread_of("session"), rank=1),
    Column("POST", 9, _spread_of("post"), rank=3),
)
TITLES = ("NODE", *(column.title for column in (*_DOING, *_TIMES)), "NOTE")
_GAP = 2


class Table:
    """Lays out nodes for one width.

    Args:
        width: of the terminal.
        longest: of the names.
    """

    def __init__(self, width: int, longest: int, marks: Marks) -> None:
        self._marks = marks
        one = (*_DOING, *_TIMES)
        names = min(max(longest, len(TIMES)), _LONGEST_NAME)
        for gap in (_GAP, 1):
            if 1 + names + _taken(one, gap) + gap + _LEAST_NOTE <= width:
                self._blocks: list[tuple[Column, ...]] = [one]
                self._gap = gap
                self._name_width = names
                return
        # Closer together where names are long.
        self._gap = _GAP if 1 + names + _taken(_DOING, _GAP) <= width else 1
        self._blocks = [_fitting(_DOING, width, self._gap), _fitting(_TIMES, width, self._gap)]
        room = width - 1 - max(_taken(block, self._gap) for block in self._blocks)
        self._name_width = max(_SHORTEST_NAME, min(names, room))

    @property
    def blocks(self) -> int:
        """How many tables there are: 1 or 2."""
        return len(self._blocks)

    def header(self, block: int, first: str) -> Text:
        """Return the line of titles; `first` stands above the names."""
        cells = [Cell(column.title) for column in self._blocks[block]]
        notes = self._has_notes(block)
        return self._line(block, " ", Cell(first), cells, Cell("NOTE" if notes else ""), style="bold")

    def row(self, block: int, row: NodeRow, *, fresh: bool, chosen: bool) -> Text:
        """Return the line of a node."""
        cells = [column.cell(row, fresh) for column in self._blocks[block]]
        mark = self._marks.chosen if chosen else " "
        note = _note(row, fresh) if self._has_notes(block) else Cell("")
        return self._line(block, mark, Cell(row.name, "bold" if chosen else ""), cells, note, style="")

    def _has_notes(self, block: int) -> bool:
        return block == len(self._blocks) - 1

    def _line(self, block: int, mark: str, name: Cell, cells: Sequence[Cell], note: Cell, *, style: str) -> Text:
        line = Text(mark, style=style, no_wrap=True, end="")
        self._put(line, name, self._name_width, left=True)
        for column, cell in zip(self._blocks[block], cells, strict=True):
            line.append(" " * self._gap)
            self._put(line, cell, column.width, left=column.left)
        if note.text:
            line.append(" " * self._gap)
            line.append(note.text, style=note.style)
        return line

    def _put(self, line: Text, cell: Cell, width: int, *, left: bool) -> None:
        text = fitted(cell.text, width, self._marks)
        line.append(text if left else " " * (width - len(cell.text)) + text.rstrip(), style=cell.style)


def fitted(text: str, width: int, marks: Marks) -> str:
    """Return a text of exactly so many cells: filled with spaces, or cut off with a sign that says so."""
    fitting = Text(text, no_wrap=True)
    if fitting.cell_len > width:
        fitting.truncate(width - 1)
        fitting.append(marks.cut)
    return fitting.plain + " " * (width - fitting.cell_len)


def spread_text(spread: Spread) -> str:
    """Return "18.2/22.4": milliseconds of half of the frames, and of 95 of 100."""
    if spread.p50 is None or spread.p95 is None:
        return _NONE
    return f"{_one_digit(spread.p50)}/{_one_digit(spread.p95)}"


def _taken(columns: Sequence[Column], gap: int) -> int:
    return sum(column.width + gap for column in columns)


def _fitting(columns: Sequence[Column], width: int, gap: int) -> tuple[Column, ...]:
    """Leave out columns until names have their room."""
    left = list(columns)
    while len(left) > 1 and 1 + _SHORTEST_NAME + _taken(left, gap) > width:
        left.remove(max(left, key=lambda column: column.rank))
    return tuple(left)
