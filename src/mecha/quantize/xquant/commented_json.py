"""JSON as people write it into configurations: with comments, and commas before a closing bracket."""

import re

# Strings come first: what looks like a comment inside one is none.
_PARTS = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|#[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'"(?:[^"\\\n]|\\.)*"|,(?=\s*[\]}])')


def plain_json(text: str) -> str:
    """Return the text with spaces where comments (`//`, `#` and `/* */`) and trailing commas stood.

    Every other character stays where it was, so that lines and columns in messages are those of the file.
    """
    return _TRAILING_COMMA.sub(_blank_comma, _PARTS.sub(_blank_comment, text))


def _blank_comment(part: re.Match[str]) -> str:
    found = part.group()
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _blank_comma(part: re.Match[str]) -> str:
    return " " if part.group() == "," else part.group()
