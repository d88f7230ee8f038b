"""The few signs that not every terminal can show."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marks:
    """Signs of one kind of terminal.

    Attributes:
        chosen: before the chosen node.
        line: a line is made of it.
        cut: ends what is cut off.
        degrees: of a temperature.
    """

    chosen: str
    line: str
    cut: str
    degrees: str


UNICODE = Marks(chosen="►", line="─", cut="…", degrees=" °C")
ASCII = Marks(chosen=">", line="-", cut="~", degrees=" C")


def marks_for(encoding: str) -> Marks:
    """Return the signs that an encoding holds."""
    try:
        "".join((UNICODE.chosen, UNICODE.line, UNICODE.cut, UNICODE.degrees)).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE
