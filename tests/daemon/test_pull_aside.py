"""A pull that the daemon has done by a process of its own, with a real Hub on loopback."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mecha.daemon.pull_aside import PullJob, pull_aside
from mecha.daemon.pulling import StoppedError
from mecha.errors import NetworkError, NodeError, NotFoundError
from mecha.hub.mirror import running_mirror
from mecha.progress import FileStage
from mecha.project import find_project
from mecha.service.request import PullOptions
from tests.daemon.kept import environ_with, hub_folder, kept_project
from tests.processes import below
from tests.runtime.waiting import wait_for

SLOW = PullOptions(limit_bytes_per_s=300_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return kept_project(tmp_path / "project")


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    with running_mirror(hub_folder(tmp_path / "hub")) as hub:
        yield environ_with(tmp_path / "home", HF_ENDPOINT=hub.endpoint, MECHA_TOKEN="of-the-daemon-alone")


def job(root: Path, environ: Mapping[str, str], options: PullOptions | None = None, name: str = "arena") -> PullJob:
    return PullJob(find_project(root, environ), name, options or PullOptions())


Pulling = Callable[[], list[psutil.Process]]


@pytest.fixture
def pulling() -> Pulling:
    """The processes that pull now and did not when the test began: one of another test may be about to end."""
    before = below()
    return lambda: below("mecha.daemon.pull_child", besides=before)


def never() -> bool:
    return False


def test_it_brings_the_model_and_says_how_far_it_is(root: Path, environ: Mapping[str, str], pulling: Pulling) -> None:
    told: list[tuple[str, int, int | None]] = []

    report = pull_aside(job(root, environ), environ, lambda *step: told.append(step), is_over=never)

    size = (root / "models/arena/model.onnx").stat().st_size
    assert (report.name, report.changed, report.licence, report.downloaded_bytes) == ("arena", True, "Apache-2.0", size)
    stage, completed, total = next(step for step in told if step[0] == "download" and step[1])
    assert isinstance(stage, FileStage)
    assert len(stage.sha256) == 64
    assert 0 < completed <= size == total
    assert told[0] == ("licence of arena: Apache-2.0", 0, None)
    assert pulling() == []


def test_what_fails_is_told_as_the_service_tells_it(root: Path, environ: Mapping[str, str]) -> None:
    with pytest.raises(NotFoundError) as unknown:
        pull_aside(job(root, environ, name="arean"), environ, lambda *_: None, is_over=never)
    assert 'did you mean "arena"?' in f"{unknown.value} {unknown.value.hint}"

    nobody = {**environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    with pytest.raises(NetworkError):
        pull_aside(job(root, nobody), nobody, lambda *_: None, is_over=never)


def test_settings_that_cannot_be_read_any_more_count_as_they_were(root: Path, environ: Mapping[str, str]) -> None:
    wanted = job(root, environ)
    (root / "configs/common/mecha.toml").write_text("[hub\n")

    assert pull_aside(wanted, environ, lambda *_: None, is_over=never).changed


@pytest.mark.skipif(sys.platform == "win32", reason="ends it by a signal")
def test_a_process_that_is_killed_is_told_and_the_next_one_goes_on(
    root: Path, environ: Mapping[str, str], pulling: Pulling
) -> None:
    def kill(stage: str, completed: int, total: int | None) -> None:
        del total
        if stage == "download" and completed:
            for process in pulling():
                process.kill()

    with pytest.raises(NodeError) as killed:
        pull_aside(job(root, environ, SLOW), environ, kill, is_over=never)

    assert str(killed.value) == "pull of arena: its process ended with signal SIGKILL at download"
    assert killed.value.hint == (
        "A model can crash onnxruntime, and a full memory ends processes: `mecha models pull` alone shows more."
    )
    assert pull_aside(job(root, environ), environ, lambda *_: None, is_over=never).changed


def test_it_ends_when_the_daemon_does_also_where_nothing_happens(
    root: Path, environ: Mapping[str, str], pulling: Pulling
) -> None:
    steps = 0

    def end(stage: str, completed: int, total: int | None) -> None:
        nonlocal steps
        del stage, completed, total
        steps += 1
        raise StoppedError

    with pytest.raises(StoppedError):
        pull_aside(job(root, environ, SLOW), environ, end, is_over=lambda: True)

    assert steps == 1
    wait_for(lambda: pulling() == [], what="no process is left")


def test_it_has_not_the_token_of_the_daemon(root: Path, environ: Mapping[str, str], pulling: Pulling) -> None:
    given: list[dict[str, str]] = []

    def look(stage: str, completed: int, total: int | None) -> None:
        del stage, completed, total
        with suppress(psutil.Error):
            given.extend(process.environ() for process in pulling())

    pull_aside(job(root, environ), environ, look, is_over=never)

    assert given
    assert all("MECHA_TOKEN" not in one and one["HF_ENDPOINT"] == environ["HF_ENDPOINT"] for one in given)


@pytest.mark.skipif(sys.platform == "win32", reason="asks for the session")
def test_ctrl_c_in_the_terminal_of_the_daemon_is_not_for_it(
    root: Path, environ: Mapping[str, str], pulling: Pulling
) -> None:
    sessions: set[int] = set()

    def look(stage: str, completed: int, total: int | None) -> None:
        del stage, completed, total
        sessions.update(os.getsid(process.pid) - process.pid for process in pulling())

    pull_aside(job(root, environ), environ, look, is_over=never)

    assert sessions == {0}


def test_a_process_that_cannot_be_started_is_told(
    root: Path, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", os.fspath(root / "no python"))

    with pytest.raises(NodeError) as refused:
        pull_aside(job(root, environ), environ, lambda *_: None, is_over=never)

    assert str(refused.value) == "pull of arena: no process can be started: no such file or directory"
