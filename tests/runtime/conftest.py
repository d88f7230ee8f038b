"""Fixtures of the runtime tests."""

import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mecha.runtime.events import Swap
from mecha.runtime.slot import DetectorSlot
from tests.detect.published_blobs import int8_blobs
from tests.runtime.background import Background
from tests.runtime.fake_detectors import FakeLoader


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


@pytest.fixture
def background() -> Iterator[Callable[[Path], Background]]:
    """Starts `mecha dev` in a project, as a process that is gone after the test."""
    started: list[Background] = []

    def start(root: Path) -> Background:
        started.append(Background(root))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def int8_bytes() -> bytes:
    """A static INT8 build of the blob detector."""
    return int8_blobs()


@pytest.fixture
def loader() -> FakeLoader:
    """Gives the slot its detectors."""
    return FakeLoader()


@pytest.fixture
def swaps() -> list[Swap]:
    """The swaps that the slot told of."""
    return []


@pytest.fixture
def slot(loader: FakeLoader, swaps: list[Swap], caplog: pytest.LogCaptureFixture) -> Iterator[DetectorSlot]:
    """A slot of detectors that load at once, or when the loader lets them."""
    caplog.set_level(logging.INFO)
    slot = DetectorSlot(loader, log=logging.getLogger("slot"), on_swap=swaps.append, look_period_s=0.05)
    yield slot
    loader.may_load.set()
    slot.close()
