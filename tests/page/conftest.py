"""A browser and a device for all tests of the page; without Playwright and Chromium they are skipped."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.page.browser import started
from tests.page.device import TOKEN, Device, running_device

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not there: .ci/page installs it")
    with playwright.sync_playwright() as driver:
        launched = started(driver)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def device(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    with running_device(tmp_path_factory.mktemp("device")) as running:
        yield running


@pytest.fixture
def new_page(browser: "Browser", device: Device) -> "Iterator[Page]":
    """Give a page that nobody has opened yet; at its end it must have asked nobody else, and refused nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    refused: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: refused.append(str(error)))
    page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    context.close()
    assert [url for url in asked if not url.startswith((device.url, f"blob:{device.url}"))] == []
    assert refused == []


@pytest.fixture
def page(new_page: "Page", device: Device) -> "Page":
    """Give a page that was opened with the token, with its detector at work."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    new_page.set_default_timeout(60_000)
    new_page.goto(device.url)
    new_page.get_by_label("Token of this daemon").fill(TOKEN)
    new_page.keyboard.press("Enter")
    detector = new_page.get_by_role("article", name="object-detector")
    expect(detector.locator("[data-part=state]")).to_have_text("running")
    expect(detector.locator("[data-part=found]")).to_contain_text("arena-n")
    return new_page
