"""`mecha topic`, `mecha record` and `mecha replay` beside a project that runs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mecha.errors import NetworkError, NotFoundError
from mecha.project import BusSettings
from mecha.runtime.bus import Sample, Use
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.recording import Recording
from tests.runtime.projects import COUNTER, TICKER, configure, make_project
from tests.runtime.waiting import wait_for
from tests.service.test_wrong_input import mounted

DEADLINE_S = 60.0
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "robot", ticker=TICKER, counter=COUNTER)
    configure(root, "ticker", pause_s=0.02)
    return root


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Starts commands in the project; what still runs after the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "mecha", *arguments],
                cwd=root,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mecha", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def until_it_runs(root: Path, *topics: str) -> None:
    place = BusPlace(root, os.environ)

    def runs() -> bool:
        try:
            with place.joined() as bus:
                return {use.topic for use in bus.uses(0.3)} >= set(topics)
        except (NotFoundError, NetworkError):
            return False

    wait_for(runs, timeout_s=DEADLINE_S)


def messages_in(path: Path) -> int:
    return Recording(path).contents().messages if path.exists() and path.stat().st_size >= 26 else 0


def ended(process: "subprocess.Popen[str]", number: int = signal.SIGINT) -> str:
    process.send_signal(number)
    return process.communicate(timeout=DEADLINE_S)[0]


def test_topics_are_listed_shown_and_measured(root: Path, start: Start) -> None:
    start("dev")
    until_it_runs(root, "/camera/rgb", "/count")

    listed = run(root, "topic", "list").stdout.splitlines()
    shown = run(root, "topic", "echo", "/count", "--count", "2").stdout.splitlines()
    frames = run(root, "topic", "echo", "/camera/rgb", "--count", "1").stdout
    measured = run(root, "topic", "hz", "/camera/rgb", "--duration", "2s", "--json").stdout.splitlines()

    waiting = start("topic", "echo", "/camera/rbg")
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == '/camera/rbg: no node writes it now; did you mean "/camera/rgb"?\n'
    assert listed[0].split() == ["TOPIC", "MESSAGE", "HZ", "WRITTEN", "BY", "READ", "BY"]
    assert [line.split()[:2] + line.split()[3:] for line in listed[1:]] == [
        ["/camera/rgb", "FrameMessage", "ticker", "counter"],
        ["/count", "JsonMessage", "counter", "-"],
    ]
    counts = [json.loads(line) for line in shown]
    assert [count["topic"] for count in counts] == ["/count", "/count"]
    assert counts[1]["message"] > counts[0]["message"]
    frame = json.loads(frames)
    assert (frame["bytes"], frame["header"]["width"], frame["header"]["source"]) == (192, 8, "ticker")
    pace = json.loads(measured[-1])
    assert (pace["schema"], pace["topic"], pace["missing"]) == (1, "/camera/rgb", 0)
    assert pace["messages"] > 1
    assert pace["hz"] > 0


def test_a_recording_of_nothing_is_told_and_leaves_no_file(root: Path, run_time_folder: Path) -> None:
    with BusPlace(root, os.environ).hosted(BusSettings()) as (bus, _):
        bus.announce(Use("/count", writes=True, node="counter", message="JsonMessage"))
        named = run(root, "record", "a.rec", "--topic", "/cuont", "--topic", "/count", "--duration", "0.1s")
        every = run(root, "record", "a.rec", "--duration", "0.1s")

    assert (named.returncode, named.stdout, named.stderr) == (
        4,
        "",
        '/cuont: no node writes it now; did you mean "/count"?\n'
        "recording to a.rec; Ctrl-C ends it\n"
        "error: a.rec: nothing came on /cuont or /count that could be recorded; no file is left\n"
        "  next: `mecha topic list` shows what is sent, and by whom.\n",
    )
    assert "error: a.rec: nothing came on any topic that could be recorded; no file is left\n" in every.stderr
    assert every.returncode == 4
    assert not (root / "a.rec").exists()


def test_a_disk_without_room_ends_a_recording(root: Path, run_time_folder: Path) -> None:
    with mounted(root / "full", "size=60m"), BusPlace(root, os.environ).hosted(BusSettings()):
        done = run(root, "record", "full/a.rec")

        left = (root / "full" / "a.rec").exists()

    assert (done.returncode, done.stdout, left) == (7, "", False)
    assert "error: full/a.rec: cannot write: " in done.stderr
    assert "and 64.0 MB stay free" in done.stderr


def test_what_was_recorded_on_one_run_is_worked_on_in_another(root: Path, start: Start) -> None:
    robot = start("dev")
    until_it_runs(root, "/camera/rgb", "/count")
    killed, recording = start("record", "cut.rec", "--topic", "/camera/rgb"), start("record", "bug.rec")
    for name in ("cut.rec", "bug.rec"):
        wait_for(lambda name=name: messages_in(root / name) > 20, timeout_s=DEADLINE_S)  # type: ignore[misc]
    killed.kill()
    assert "bug.rec: " in ended(recording)
    assert recording.returncode == 0
    ended(robot)
    assert Recording(root / "cut.rec").contents().messages > 0
    frames = [one.sample for one in Recording(root / "bug.rec") if one.sample.topic == "/camera/rgb"]

    desk, heard = start("dev", "counter"), list[Sample]()
    until_it_runs(root, "/count")
    with BusPlace(root, os.environ).joined() as bus:
        bus.subscribe("/camera/rgb", heard.append)
        replay = run(root, "replay", "bug.rec", "--speed", "2")
        wait_for(lambda: len(heard) == len(frames), timeout_s=DEADLINE_S)
    summary = ended(desk)

    assert heard == frames
    assert replay.stdout == f"bug.rec: {len(frames)} messages sent on /camera/rgb\n"
    assert replay.stderr == "/count is left out: counter writes it\n"
    row = next(line for line in summary.splitlines() if line.startswith("counter "))
    assert int(row.split()[1]) > 0
    info = json.loads(run(root, "replay", "bug.rec", "--info", "--json").stdout)
    assert info["topics"]["/camera/rgb"]["messages"] == len(frames)


def test_a_project_that_does_not_run_is_told(root: Path) -> None:
    done = run(root, "record", "new.rec")

    assert (done.returncode, done.stderr) == (
        4,
        "error: nothing runs in this project: nobody hosts its bus\n"
        "  next: Start its nodes first, by `mecha dev` in another terminal.\n",
    )
    assert not (root / "new.rec").exists()


def test_calls_that_make_no_sense_are_told(root: Path) -> None:
    both = run(root, "replay", "a.rec", "--fast", "--speed", "2")
    no_slash, empty, pattern = (
        run(root, "topic", "echo", "camera/state"),
        run(root, "topic", "hz", ""),
        run(root, "record", "a.rec", "--topic", "/a/**"),
    )

    for done, got in ((no_slash, "camera/state"), (empty, ""), (pattern, "/a/**")):
        assert (done.returncode, done.stderr) == (
            2,
            f'error: topic: got "{got}"; expected words that each begin with a slash, as in /camera/rgb\n'
            "  next: A word holds letters, digits, `_`, `.` and `-`.\n",
        )
    assert both.stderr == "error: --fast and --speed: got both; expected one of them\n"
