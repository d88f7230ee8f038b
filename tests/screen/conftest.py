"""Fixtures of the tests of the screen."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_time_folder(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> Iterator[Path]:
    """A run-time folder of the test's own, with a path that is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="mt-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)
