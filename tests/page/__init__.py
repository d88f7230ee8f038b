"""The page of the daemon in a real Chromium, driven by Playwright: `.ci/page` installs both and runs these tests."""
