"""The files of the page: what they may hold, and how they are served. tests/page sees in a browser what they do."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI

from mecha.daemon.access import Access
from mecha.daemon.page import PAGE_FILES, page_router
from mecha.daemon.token import DaemonToken
from tests.daemon.guarded import TOKEN, Answering, answering

SVG_NAMESPACE = "http://www.w3.org/2000/svg"
# What would run, or load, a text as a program or as markup.
NO_WORDS = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage")


class Markup(HTMLParser):
    """Collects what a strict Content-Security-Policy would refuse, and what is linked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.refused: list[str] = []
        self.linked: set[str] = set()
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.refused += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]
        self.linked |= {str(names[name]) for name in ("src", "href") if name in names}
        self._script = tag == "script"
        if tag == "style":
            self.refused.append(tag)

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.refused.append("script")


@pytest.fixture(scope="module")
def served() -> Iterator[Answering]:
    app = FastAPI(openapi_url=None)
    app.include_router(page_router())
    with answering(Access(DaemonToken(TOKEN)).guard(app)) as tcp:
        yield tcp


def texts() -> dict[str, str]:
    return {path: file.read_text(encoding="utf-8") for path, file in PAGE_FILES.items()}


def test_it_is_served_to_those_who_have_no_token_yet(served: Answering) -> None:
    for path, file in PAGE_FILES.items():
        answer = served.ask(path)
        assert (answer.status, answer.body) == (200, file.read_bytes()), path


def test_nothing_of_it_is_run_from_within_the_markup() -> None:
    markup = Markup(texts()["/"])

    assert markup.refused == []
    assert {link for link in markup.linked if not link.startswith("#")} <= set(PAGE_FILES)


def test_it_loads_nothing_from_elsewhere() -> None:
    for path, text in texts().items():
        assert set(re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]+[^\"' )]*", text)) <= {SVG_NAMESPACE}, path


def test_what_others_say_is_never_read_as_markup_or_as_a_program() -> None:
    assert [(path, word) for path, text in texts().items() for word in NO_WORDS if word in text] == []


def test_each_part_imports_what_is_there() -> None:
    for path, text in texts().items():
        for imported in re.findall(r'^import .* from "\.(.+)";$', text, re.MULTILINE):
            assert imported in PAGE_FILES, path
