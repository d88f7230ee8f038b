"""Where a download goes, and a mirror that is asked by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mecha.hub.mirror import RunningMirror, running_mirror
from tests.hub.asked_mirror import served_folder


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "model.partial"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return served_folder(tmp_path)


@pytest.fixture
def mirror(root: Path) -> Iterator[RunningMirror]:
    with running_mirror(root) as mirror:
        yield mirror
