"""Fixtures shared by all tests."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# As in the process that makes INT8: threads of numpy's own only take turns with onnxruntime's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from mecha.service.background import NICENESS

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite in three processes; tests that are named run in this one, which starts at once.

    Half of the suite waits for processes that it has started: three keep two cores busy.
    """
    return 3 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


def pytest_configure(config: pytest.Config) -> None:
    """Give way as builds of INT8 do, which would starve behind the tests of the other processes otherwise."""
    # A shell lets what it starts in the background ignore Ctrl-C, and with it all that the tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput") and sys.platform != "win32":
        os.nice(max(NICENESS - os.nice(0), 0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, in one process: at the end the others would have nothing to do meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("shared_data") is None)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real models, photos and video beside the project; the test is skipped where it is absent."""
    if not _SHARED_DATA.is_dir():
        pytest.skip("no shared data beside the project")
    return _SHARED_DATA


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test its own home and no HF_*, MECHA_* or XDG_* variable, in this process and in those it starts."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("HF_", "MECHA_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def limit_of_files() -> Iterator[None]:
    """Give back the limit on open files, which servers of ours raise for their process."""
    if sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["000", "022", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run with a mask that hides nothing, the usual, or all from others; the mask."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)
