"""A few of the toggles of `python -m tests.reliability.toggles`."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.toggles import project, proof, watched

SIZE = (320, 240)


@pytest.fixture
def run_time_folder(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> Iterator[None]:
    """A path that is short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="mt-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    yield
    shutil.rmtree(folder)


@pytest.mark.usefixtures("run_time_folder")
def test_no_frame_is_lost_to_a_switch_and_every_result_is_of_the_file_that_it_names(tmp_path: Path) -> None:
    root = project(tmp_path / "project", SIZE)

    shown = proof(root, watched(root, seconds=5, toggles=15))

    assert shown.faults == ()
    assert shown.figures["toggles"] == 15
