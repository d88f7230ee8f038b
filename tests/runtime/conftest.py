"""Fixtures of the runtime tests."""

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.detect.published_blobs import int8_blobs


@pytest.fixture(autouse=True)
def run_time_folder(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> Iterator[Path]:
    """A run-time folder of the test's own, with a path that is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="mt-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a TCP port of the loopback that nobody uses."""

    def port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return port


@pytest.fixture(scope="session")
def int8_bytes() -> bytes:
    """A static INT8 build of the blob detector."""
    return int8_blobs()
