"""The page of `mecha dev` and its pictures show the screen as it is."""

import re
from pathlib import Path

import pytest

from mecha.cli.screen.keys import HELP
from mecha.cli.screen.table import TITLES
from mecha.runtime.surroundings import STATES

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECTION = (DOCS / "dev.md").read_text(encoding="utf-8").split("\n## The screen\n")[1].split("\n## ")[0]


def test_the_page_has_every_key_with_what_it_does() -> None:
    rows = re.findall(r"^\| (`.*) \| (.*) \|$", SECTION, re.MULTILINE)

    assert [(keys.replace("`", ""), words) for keys, words in rows] == [
        (keys.replace(",", ""), words) for keys, words in HELP
    ]


def test_the_page_has_every_title_of_the_table() -> None:
    told = " ".join(re.findall(r"^\| ([A-Z][^|]*) \|", SECTION, re.MULTILINE)).replace(",", "").split()

    assert told == [title for title in TITLES if title != "NODE"]


def test_the_page_has_every_state() -> None:
    row = next(line for line in SECTION.splitlines() if line.startswith("| STATE |"))

    assert re.findall(r"`(\w+)`", row) == list(STATES)


@pytest.mark.parametrize("name", ["dev-80x24", "dev-200x50", "dev-help"])
def test_a_picture_shows_this_screen_and_loads_nothing(name: str) -> None:
    svg = (DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", " ", svg).replace("&#160;", " ")

    # All titles of the first table; the line of keys is the last one.
    assert all(title in text for title in TITLES[: TITLES.index("CPU") + 1])
    assert "quit" in text
    assert set(re.findall(r"https?://[^\"' )]+", svg)) == {"http://www.w3.org/2000/svg"}
