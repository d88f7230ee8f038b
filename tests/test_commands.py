"""Every command that a message, a comment or a page names exists, with the options that it names."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mecha.cli.app import _COMMANDS, app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [
    ROOT / "model_catalog.toml",
    *(path for folder in ("src", "nodes", "configs") for path in sorted((ROOT / folder).rglob("*.*"))
      if path.suffix in {".py", ".toml", ".json"}),
]  # fmt: skip
# What stands for one or more words that a user fills in.
PLACEHOLDER = re.compile(r"[{\[(<…A-Z]|\.\.\.")


def named_commands(text: str, *, page: bool) -> Iterator[str]:
    """Give the commands that a text names: between backticks, and on a page also on a line of their own in a block."""
    yield from re.findall(r"`(mecha [^`\n]+)`", text)
    if page:
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        blocks.append("\n".join(line.strip() for line in text.splitlines() if line.startswith("    mecha ")))
        for block in blocks:
            yield from re.findall(r"^(?:\$ )?(mecha [a-z].*?)(?:  .*)?$", block, re.MULTILINE)


def fault_of(command: str) -> str | None:
    """Return what a command names that does not exist, or None."""
    words = re.sub(r"\s*\|\s*", "|", command).split()[1:]
    parsers: list[Any] = [typer.main.get_command(app)]
    while words and not words[0].startswith("-") and hasattr(parsers[0], "list_commands"):
        word = words.pop(0)
        if PLACEHOLDER.match(word):
            break
        found = {name: subcommand(parsers[0], name) for name in word.split("|")}
        for name, parser in found.items():
            if parser is None:
                return name
        parsers = list(found.values())
    options = {option for word in words for option in re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", word)}
    known = {"-h", "--help"}.union(
        *({*item.opts, *item.secondary_opts} for parser in parsers for item in parser.params)
    )
    return next(iter(sorted(options - known)), None)


def subcommand(parser: Any, name: str) -> Any:
    if name in _COMMANDS and parser.name == "mecha":
        return typer.main.get_command(importlib.import_module(_COMMANDS[name][0]).app)
    return getattr(parser, "commands", {}).get(name)


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_only_commands_that_exist_are_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = {command: fault for command in named_commands(text, page=path in PAGES) if (fault := fault_of(command))}
    assert wrong == {}


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_hint_puts_a_command_between_backticks(path: Path) -> None:
    """So that the test above sees it."""
    assert (
        re.findall(
            rf"""(?:hint=|remedy=)f?["']mecha (?:{"|".join(_COMMANDS)})\b[^"']*""", path.read_text(encoding="utf-8")
        )
        == []
    )


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("mecha models pull NAME --force", None),
        ("mecha models list | show | verify", None),
        ("mecha config get|set NODE", None),
        ("mecha models …", None),
        ("mecha --help", None),
        ("mecha nonsense", "nonsense"),
        ("mecha models pull|fetch {name}", "fetch"),
        ("mecha models pull NAME --fast", "--fast"),
        ("mecha detect photo.jpg --out=a.png", None),
        ("mecha detect photo-a--b.jpg -o a.png", "-o"),
    ],
)
def test_what_does_not_exist_is_found(command: str, fault: str | None) -> None:
    assert fault_of(command) == fault


def test_commands_are_seen_in_prose_and_in_blocks() -> None:
    page = (
        "mecha is a word, `mecha dev` is not.\n\n    mecha init DIR    a project\n\n"
        "```text\n$ mecha models pull a\na: done\n```\n\n```sh\nmecha demo\n```\n"
    )
    assert list(named_commands(page, page=True)) == ["mecha dev", "mecha models pull a", "mecha demo", "mecha init DIR"]
    assert list(named_commands(page, page=False)) == ["mecha dev"]
