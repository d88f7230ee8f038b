"""The browser of these tests: `python -m tests.page.browser` says whether it starts."""

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

_CHROMIUM = os.environ.get("MECHA_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = ("--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update")


def started(driver: "Playwright") -> "Browser":
    """Start it: the one of the system, else Playwright's own."""
    # Chromium refuses to sandbox what root runs.
    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else list(_FLAGS)
    return driver.chromium.launch(executable_path=_CHROMIUM, args=flags)


def main() -> None:
    """Start and end it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = started(driver)
        print(f"Chromium {browser.version}")
        browser.close()


if __name__ == "__main__":
    main()
