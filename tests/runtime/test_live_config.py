"""A config that changes while a node runs with it."""

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mecha.errors import ConfigError
from mecha.runtime.config import CONFIG_VARIABLE, NodeConfig
from mecha.runtime.live import REMEDY, LiveConfig, changes
from mecha.runtime.watch import FileWatch
from tests.runtime.waiting import wait_for

COMMON = "configs/common/nodes/n/config.json"
ROBOT = "configs/robot/nodes/n/config.json"


class Config(NodeConfig):
    """An example."""

    use_int8: bool = False
    score: float = 0.5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / COMMON
    file.parent.mkdir(parents=True)
    file.write_text('{"use_int8": false}\n')
    return file


@pytest.fixture
def live(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[LiveConfig[Config]]:
    caplog.set_level(logging.INFO)
    live = opened(tmp_path)
    yield live
    live.stop()


def opened(
    root: Path,
    environ: dict[str, str] | None = None,
    on_fault: Callable[[str], None] = lambda fault: None,
) -> LiveConfig[Config]:
    live = LiveConfig(
        Config,
        (root / COMMON, root / ROBOT),
        root,
        environ or {},
        log=logging.getLogger("n"),
        on_change=lambda: None,
        on_fault=on_fault,
    )
    live.start()
    return live


def renames(file: Path, text: str) -> None:
    """What vim, VS Code on some systems, and `mecha config set` do."""
    new = file.with_name(".config.json.tmp")
    new.write_text(text)
    new.replace(file)


def moves_the_old_one_away(file: Path, text: str) -> None:
    """What vim with a backup does."""
    file.rename(file.with_name("config.json~"))
    file.write_text(text)


def truncates(file: Path, text: str) -> None:
    """What nano and the shell do."""
    file.write_text(text)


def writes_in_pieces(file: Path, text: str) -> None:
    """What a slow disk or network makes of any editor; the pauses are longer than a file needs to settle."""
    with file.open("w") as stream:
        for start in range(0, len(text), 8):
            stream.write(text[start : start + 8])
            stream.flush()
            time.sleep(0.15)


@pytest.mark.parametrize("editor", [renames, moves_the_old_one_away, truncates, writes_in_pieces])
def test_a_config_is_read_again_whatever_the_editor_does(
    editor: Callable[[Path, str], None], file: Path, live: LiveConfig[Config], caplog: pytest.LogCaptureFixture
) -> None:
    for use_int8 in (True, False, True):
        editor(file, f'{{"use_int8": {str(use_int8).lower()}}}')
        assert wait_for(live.take) == (Config(use_int8=not use_int8), Config(use_int8=use_int8))

    assert live.value == Config(use_int8=True)
    assert [record.getMessage() for record in caplog.records] == [
        "Config changed: use_int8: false -> true",
        "Config changed: use_int8: true -> false",
        "Config changed: use_int8: false -> true",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"use_int8": true', f"{COMMON}:1:18: not JSON: expecting ',' delimiter"),
        ('{\n  "use_int9": true\n}', f'{COMMON}:2: use_int9: unknown key; did you mean "use_int8"?'),
        ("", f"{COMMON}: the file is empty; expected JSON"),
        ('{"use_int8": "yes"}', f'{COMMON}:1: use_int8: got "yes"; expected true or false'),
        (None, f"{COMMON}: no such file any more, or it cannot be read"),
    ],
)
def test_a_config_with_a_fault_changes_nothing_and_is_told_once_with_line_and_remedy(
    text: str | None, fault: str, file: Path, live: LiveConfig[Config], caplog: pytest.LogCaptureFixture
) -> None:
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    wait_for(lambda: len(caplog.records) == 2)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", fault),
        ("ERROR", REMEDY),
    ]
    assert live.take() is None
    assert live.value == Config()

    renames(file, '{"use_int8": true}')
    assert wait_for(live.take) == (Config(), Config(use_int8=True))


def test_a_fault_is_told_again_only_when_it_is_another(
    file: Path, live: LiveConfig[Config], caplog: pytest.LogCaptureFixture
) -> None:
    for text in ('{"a": 1}', '{"a": 1} ', '{"b": 1}', '{"b":1 }', '{"a": 1}'):
        file.write_text(text)
        # The same fault in another spelling is not told: something else must show that it was read.
        watched = live._watch
        wait_for(lambda text=text, watched=watched: watched._last[0] == text.encode())  # type: ignore[misc]

    wait_for(lambda: len(caplog.records) == 6)
    assert [record.getMessage() for record in caplog.records if record.getMessage() != REMEDY] == [
        f"{COMMON}:1: a: unknown key",
        f"{COMMON}:1: b: unknown key",
        f"{COMMON}:1: a: unknown key",
    ]


def test_a_fault_is_handed_on_and_so_is_its_end(file: Path, tmp_path: Path) -> None:
    told: list[str] = []
    live = opened(tmp_path, on_fault=told.append)
    try:
        file.write_text('{"use_int9": true}')
        wait_for(lambda: len(told) == 1)
        file.write_text('{"use_int8": false}')
        wait_for(lambda: len(told) == 2)
    finally:
        live.stop()

    assert told == [f'{COMMON}:1: use_int9: unknown key; did you mean "use_int8"?', ""]


def test_the_same_config_in_another_spelling_is_no_change(
    file: Path, live: LiveConfig[Config], caplog: pytest.LogCaptureFixture
) -> None:
    renames(file, '{ "use_int8" : false, "score": 0.5 }')
    wait_for(lambda: live._watch._last[0] == b'{ "use_int8" : false, "score": 0.5 }')

    assert live.take() is None
    assert caplog.records == []


def test_the_file_of_an_environment_may_appear_later(file: Path, tmp_path: Path, live: LiveConfig[Config]) -> None:
    robot = tmp_path / ROBOT
    robot.parent.mkdir(parents=True)
    robot.write_text('{"score": 0.7}')

    assert wait_for(live.take) == (Config(), Config(score=0.7))


def test_what_the_command_line_said_stays(file: Path, tmp_path: Path) -> None:
    live = opened(tmp_path, {**os.environ, CONFIG_VARIABLE: '{"score": 0.9}'})
    try:
        assert live.value == Config(score=0.9)
        renames(file, '{"use_int8": true, "score": 0.1}')
        assert wait_for(live.take) == (Config(score=0.9), Config(use_int8=True, score=0.9))
    finally:
        live.stop()


def test_a_node_does_not_start_with_a_faulty_config(file: Path, tmp_path: Path) -> None:
    file.write_text("{")

    with pytest.raises(ConfigError):
        opened(tmp_path)


def test_what_changed_is_told_by_key() -> None:
    assert changes(Config(), Config(use_int8=True, score=0.25)) == ["use_int8: false -> true", "score: 0.5 -> 0.25"]


def test_a_watch_that_the_system_tells_nothing_finds_the_change_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    seen: list[object] = []
    watch = FileWatch([file], seen.append, settle_s=0.01, poll_s=0.02)
    watch.start()
    try:
        file.parent.mkdir()
        file.write_bytes(b"here")
        wait_for(lambda: seen)
    finally:
        watch.stop()

    assert seen == [(b"here",)]


def test_a_stopped_watch_tells_nothing(tmp_path: Path) -> None:
    seen: list[object] = []
    watch = FileWatch([tmp_path / "file"], seen.append, settle_s=0.01, poll_s=0.02)
    watch.start()
    watch.stop()

    (tmp_path / "file").write_bytes(b"late")

    assert seen == []


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is of Linux")
def test_an_event_that_comes_while_a_watch_stops_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from watchdog.observers.api import EventQueue, ObservedWatch
    from watchdog.observers.inotify import InotifyEmitter

    watch = FileWatch((tmp_path / "a",), lambda contents: None)
    watch.start()
    watch.stop()

    # Given none, it would start the one thread of all, which nobody ends.
    nothing: Any = object()
    watched = ObservedWatch(str(tmp_path), recursive=False)
    InotifyEmitter(EventQueue(), watched, inotify_fd=nothing).queue_events(0)

    assert caplog.records == []


def test_a_watch_whose_files_cannot_be_listed_goes_on_when_they_can(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    seen: list[object] = []
    broken = threading.Event()
    refused: list[str] = []

    def files() -> list[Path]:
        if broken.is_set():
            refused.append(threading.current_thread().name)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return [file]

    watch = FileWatch(files, seen.append, settle_s=0.01, poll_s=0.02)
    watch.start()
    try:
        broken.set()
        file.write_bytes(b"after")
        # By the watch itself, and again; the thread that hears of events asks, too.
        wait_for(lambda: refused.count("file-watch") > 3)
        assert seen == []
        broken.clear()
        wait_for(lambda: seen)
    finally:
        watch.stop()

    assert seen == [(b"after",)]
