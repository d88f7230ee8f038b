"""The screen of `mecha dev` as lines: exactly as many and as wide as the terminal, so that nothing wraps or scrolls."""

from dataclasses import dataclass

from rich.text import Text

from mecha.cli.screen.keys import HELP
from mecha.cli.screen.log import LogLine
from mecha.cli.screen.marks import Marks
from mecha.cli.screen.state import NodeRow, ScreenState
from mecha.cli.screen.table import TIMES, Table

_LEAST_LOG = 4
_AROUND = 3
"""Lines that are neither nodes nor log: the title, the line above the log, and the keys."""
_LEVEL_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
# In the order in which they are shown, with what stays longest where there is too little room.
_KEYS = (
    ("i", "INT8", 2),
    ("p", "pause", 3),
    ("r", "restart", 4),
    ("d", "degrade", 6),
    ("c", "calibrate", 7),
    ("/", "find", 5),
    ("n", "node", 8),
    ("l", "level", 9),
    ("w", "wrap", 10),
    ("?", "help", 0),
    ("q", "quit", 1),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the title says that is of no node.

    Attributes:
        now_s: on the clock of the events.
        duration_s: when it ends by itself, None for never.
        title: the project, and its environment.
        temperature_c: of the hottest part, None where the system does not tell.
        slowed: what slows the device down, "" when nothing does.
    """

    now_s: float
    duration_s: float | None
    title: str
    temperature_c: float | None
    slowed: str


def render(state: ScreenState, moment: Moment, width: int, height: int, marks: Marks) -> list[Text]:
    """Return `height` lines of `width` cells each.

    Args:
        state: what is known.
        moment: what the title says.
        width: in characters.
        height: in lines.
        marks: the signs of the terminal.
    """
    lines = [_title(state, moment, width, marks)]
    lines += _nodes(state, moment.now_s, width, height - _AROUND, marks)
    lines.append(_log_title(state, width, marks))
    room = max(0, height - len(lines) - 1)
    lines += _help(width, room) if state.helps else _log(state, width, room)
    lines = lines[: height - 1]
    lines += [Text() for _ in range(height - 1 - len(lines))]
    lines.append(_foot(state, width))
    return [_exactly(line, width, marks) for line in lines[-height:]]


def log_room(state: ScreenState, width: int, height: int, marks: Marks) -> int:
    """Return how many lines of the log are seen."""
    return max(1, height - _AROUND - len(_nodes(state, 0.0, width, height - _AROUND, marks)))


def _title(state: ScreenState, moment: Moment, width: int, marks: Marks) -> Text:
    left = Text(" mecha dev", style="bold")
    elapsed_s = 0.0 if state.began_s is None else moment.now_s - state.began_s
    left.append(f"  {moment.title}  {_clock(elapsed_s)}", style="not bold")
    if moment.duration_s is not None:
        left.append(f" of {_clock(moment.duration_s)}", style="not bold")
    for words in state.said.values():
        left.append(f"  {words}", style="not bold cyan")
    if state.stopping:
        left.append("  stopping, q: at once", style="yellow")
    right = Text()
    if moment.slowed:
        right.append(moment.slowed, style="bold red")
    if moment.temperature_c is not None:
        right.append(f"{'  ' if moment.slowed else ''}{moment.temperature_c:.0f}{marks.degrees} ")
    gap = width - left.cell_len - right.cell_len
    if gap < 1:
        return left
    return left.append(" " * gap).append_text(right)


def _nodes(state: ScreenState, now_s: float, width: int, height: int, marks: Marks) -> list[Text]:
    """Return the table, with the chosen node in sight where not all of them are."""
    rows = list(state.nodes.values())
    if not rows:
        return [Text(" starting", style="dim")]
    table = Table(width, max(len(row.name) for row in rows), marks)
    room = height - (len(HELP) if state.helps else _LEAST_LOG)
    blocks = table.blocks if table.blocks * (len(rows) + 1) <= room else 1
    shown, first = _window(rows, state.chosen, max(1, room - 1)), "NODE"
    if len(shown) < len(rows):
        first = f"{len(shown)} of {len(rows)}"
    titles = (first, TIMES)
    lines = []
    for block in range(blocks):
        lines.append(table.header(block, titles[block]))
        lines += [
            table.row(block, row, fresh=row.is_fresh(now_s), chosen=row is state.row and block == 0) for row in shown
        ]
    return lines


def _window(rows: list[NodeRow], chosen: str, count: int) -> list[NodeRow]:
    if len(rows) <= count:
        return rows
    at = next((index for index, row in enumerate(rows) if row.name == chosen), 0)
    first = min(max(0, at - count // 2), len(rows) - count)
    return rows[first : first + count]


def _log_title(state: ScreenState, width: int, marks: Marks) -> Text:
    chosen = state.log.filter
    words = "help" if state.helps else "log"
    if not state.helps:
        parts = []
        if chosen.node:
            parts.append(f"of {chosen.node}")
        if chosen.level != "DEBUG":
            parts.append(f"{chosen.level} and up")
        if chosen.text:
            parts.append(f'with "{chosen.text}"')
        words = " ".join(["log", ", ".join(parts)]).strip()
    line = Text(f"{marks.line * 2} {words} ", style="dim" if words in {"log", "help"} else "bold")
    newer = state.log.newer
    right = f" {newer} newer, End follows " if newer and not state.helps else ""
    line.append(marks.line * max(0, width - line.cell_len - len(right)), style="dim not bold")
    return line.append(right, style="bold")


def _log(state: ScreenState, width: int, height: int) -> list[Text]:
    lines = state.log.seen(height)
    if not state.wraps:
        return [_log_line(line) for line in lines]
    folded: list[Text] = []
    for line in reversed(lines):
        folded = _folded(line, width) + folded
        if len(folded) >= height:
            break
    # The newest line is the one that must be seen whole.
    return folded[max(0, len(folded) - height) :]


def _log_line(line: LogLine) -> Text:
    text = Text(line.prefix, style=_LEVEL_STYLES.get(line.level, "dim"), no_wrap=True)
    return text.append(line.text, style="not dim not bold" if line.level not in {"ERROR", "CRITICAL"} else "")


def _folded(line: LogLine, width: int) -> list[Text]:
    """Return a line on as many lines as it takes; those that follow the first are indented."""
    left, indent = _log_line(line), "    "
    pieces: list[Text] = []
    while left.cell_len > width - (len(indent) if pieces else 0) and width > 2 * len(indent):
        room = width - (len(indent) if pieces else 0)
        cut = _cut_at(left.plain, room)
        head, left = left.divide([cut])
        head.rstrip()
        pieces.append(Text(indent).append_text(head) if pieces else head)
    return [*pieces, Text(indent).append_text(left) if pieces else left]


def _cut_at(text: str, room: int) -> int:
    """Return where a text is cut, so that what is before takes `room` cells at most: after a space, if there is one."""
    fitting = Text(text)
    fitting.truncate(room)
    cut = max(1, len(fitting.plain))
    space = text.rfind(" ", 0, cut)
    return space + 1 if space > cut // 2 else cut


def _help(width: int, height: int) -> list[Text]:
    longest = max(len(keys) for keys, _ in HELP)
    entries = [Text(f" {keys:<{longest}}  ", style="bold").append(words, style="not bold") for keys, words in HELP]
    if len(entries) <= height:
        return entries
    half, column = (len(entries) + 1) // 2, width // 2
    lines = []
    for index in range(half):
        line = entries[index].copy()
        line.truncate(column - 1)
        if index + half < len(entries):
            line.append(" " * (column - line.cell_len))
            line.append_text(entries[index + half])
        lines.append(line)
    return lines


def _foot(state: ScreenState, width: int) -> Text:
    if state.typed is not None:
        line = Text(" find: ", style="bold")
        line.append(state.typed[-max(1, width - 40) :], style="not bold").append(" ", style="reverse")
        return line.append("  Enter keeps it, Esc does not", style="dim not bold")
    fitting, taken = set(), 0
    for key, words, rank in sorted(_KEYS, key=lambda item: item[2]):
        taken += len(f" {key} {words} ")
        if taken > width:
            break
        fitting.add(rank)
    line = Text()
    for key, words, rank in _KEYS:
        if rank in fitting:
            line.append(f" {key} ", style="bold").append(f"{words} ", style="dim")
    return line


def _exactly(line: Text, width: int, marks: Marks) -> Text:
    """Return a line of exactly so many cells, so that it covers what stood there before."""
    line.no_wrap = True
    if line.cell_len > width:
        line.truncate(max(0, width - 1))
        line.append(marks.cut)
    line.append(" " * (width - line.cell_len))
    return line


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
