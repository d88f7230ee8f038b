"""Where a download goes."""

from pathlib import Path

import pytest


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "model.partial"
