"""From lines with styles to what a terminal takes, in the colours that it has."""

import io
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from mecha.cli.screen.marks import marks_for
from mecha.cli.screen.terminal import Terminal


class Drawing:
    """Draws on a terminal.

    Args:
        environ: names the terminal and its colours: TERM, COLORTERM, NO_COLOR.

    Attributes:
        size: columns and lines of what is drawn, (0, 0) before anything is.
        marks: the signs that the terminal shows.
    """

    def __init__(self, terminal: Terminal, environ: Mapping[str, str]) -> None:
        self._terminal = terminal
        self._console = ansi_console(environ)
        self.marks = marks_for(terminal.encoding)
        self.size = (0, 0)

    def show(self, lines: Sequence[Text], size: tuple[int, int], *, whole: bool) -> None:
        """Show lines; all of them are written again when the size has changed, or on wish."""
        whole = whole or size != self.size
        self.size = size
        self._terminal.draw(ansi_lines(self._console, lines), whole=whole)


def ansi_console(environ: Mapping[str, str]) -> Console:
    """Return what styles texts as the terminal that the environment names can show them."""
    system = Console(file=sys.__stdout__, force_terminal=True, _environ=environ).color_system
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system=system if system in {"standard", "256", "truecolor"} else "standard",  # type: ignore[arg-type]
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        _environ=environ,
    )


def ansi_lines(console: Console, lines: Sequence[Text]) -> list[str]:
    """Return each line with the sequences of its styles, which end with it."""
    with console.capture() as written:
        console.print(Text("\n").join(lines), end="", soft_wrap=True)
    return written.get().split("\n")
