"""Nodes as real processes under their supervisor."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mecha.child_process import exit_words
from mecha.errors import BusyError, NotFoundError
from mecha.project import NodeSettings, find_project
from mecha.runtime.bus.place import BusPlace
from mecha.runtime.dev import DevOptions, DevSummary, run_dev
from mecha.runtime.restart import RestartPolicy
from mecha.runtime.stop_order import stop_order
from tests.processes import below
from tests.runtime.projects import COUNTER, STUBBORN, TICKER, configure, make_project

if TYPE_CHECKING:
    from mecha.runtime.supervisor import Supervisor

CRASHER = """
    import os
    from mecha.runtime.messages import FrameMessage
    from mecha.runtime.node import Node

    class Crasher(Node):
        inputs = {"/camera/rgb": FrameMessage}

        def step(self, message: FrameMessage) -> None:
            flag = self.root / "crashed"
            if not flag.exists():
                flag.touch()
                print("about to crash")
                raise ValueError("once")
            self.log.info("recovered")
"""


class Run:
    """What a run said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []

    def go(self, *nodes: str, **options: Any) -> DevSummary:
        project = find_project(self.root, os.environ)
        return run_dev(project, nodes, DevOptions(**options), self.lines.append, self.events.append)


def test_every_frame_of_a_source_is_worked_on_and_the_run_ends_with_it(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    configure(root, "ticker", frames=60, pause_s=0.02)
    run = Run(root)

    summary = run.go()

    assert (summary.exit_code, summary.failure) == (0, "")
    # Of frames the newest wins where this machine is busy, and every other one is counted.
    ticked, counted = summary.nodes["ticker"], summary.nodes["counter"]
    assert (ticked.frames, ticked.dropped, ticked.restarts) == (60, 0, 0)
    assert (counted.frames + counted.dropped, counted.restarts) == (60, 0)
    assert f"[INFO] counter: saw {counted.frames} frames, the last was [59]" in run.lines
    seen = [event["frame"] for event in run.events if event["event"] == "inference"]
    assert (len(seen), seen) == (counted.frames, sorted(set(seen)))
    assert {event["event"] for event in run.events} == {"inference", "state", "stats"}
    counter = summary.to_json()["nodes"]["counter"]
    assert (counter["p50_ms"], counter["p95_ms"]) == (1.0, 1.0)
    assert counter["rss_mb"] > 10


def test_a_run_ends_when_its_time_is_over(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    run = Run(root)

    summary = run.go(duration_s=0.3)

    assert summary.exit_code == 0
    assert summary.nodes["counter"].frames > 5
    assert run.lines[-1].startswith("[INFO] counter: saw ")


def test_only_the_nodes_that_are_named_run(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    configure(root, "ticker", frames=3)

    summary = Run(root).go("ticker")

    assert list(summary.nodes) == ["ticker"]


def test_a_node_that_raises_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, crasher=CRASHER, counter=COUNTER)
    configure(root, "ticker", frames=400, pause_s=0.01)
    run = Run(root)

    summary = run.go()

    assert summary.exit_code == 0
    assert summary.nodes["crasher"].restarts == 1
    assert summary.nodes["crasher"].frames > 1
    counter = summary.nodes["counter"]
    assert (counter.frames + counter.dropped, counter.restarts) == (400, 0)
    program = root / "nodes/crasher/node.py"
    assert f"[ERROR] crasher: ValueError: once ({program}:14)" in run.lines
    assert "[INFO] crasher: about to crash" in run.lines
    assert "[ERROR] crasher: ended with exit code 9; it is started again in 0.5 s" in run.lines
    assert [event["message"] for event in run.events if event["event"] == "error"] == [
        f"ValueError: once ({program}:14)",
        "ended with exit code 9; it is started again in 0.5 s",
    ]
    assert "[INFO] crasher: recovered" in run.lines


@pytest.mark.parametrize(
    ("program", "config", "code", "failure"),
    [
        (COUNTER, '{"modle": 1}', 3, "configs/common/nodes/broken/config.json:1: modle: unknown key"),
        (
            """
            from mecha.errors import NotFoundError
            from mecha.runtime.node import Node

            class Broken(Node):
                def setup(self) -> None:
                    raise NotFoundError('model "yolov8n" is not pulled', hint="`mecha models pull yolov8n` pulls it.")
            """,
            "{}",
            4,
            'model "yolov8n" is not pulled',
        ),
    ],
)
def test_a_node_that_cannot_start_ends_the_run_with_its_reason(
    tmp_path: Path, program: str, config: str, code: int, failure: str
) -> None:
    root = make_project(tmp_path, ticker=TICKER, broken=program)
    configure(root, "broken").write_text(config)
    run = Run(root)

    summary = run.go()

    assert summary.exit_code == code
    assert summary.failure.startswith(f"broken: {failure}")
    assert "[ERROR] broken: is not started again, and the others end too" in run.lines
    assert summary.nodes["broken"].restarts == 0


def test_a_node_that_does_not_end_is_killed(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, stubborn=STUBBORN)
    run = Run(root)

    summary = run.go(duration_s=0.3, stop_deadline_s=0.3)

    assert summary.exit_code == 0
    assert any(line.startswith("[ERROR] stubborn: does not end, and is killed (") for line in run.lines)
    assert below("stubborn") == []


def test_a_node_that_is_not_given_its_time_to_end_is_no_error(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, stubborn=STUBBORN)
    run = Run(root)
    begun: list[Supervisor] = []

    def twice(event: dict[str, Any]) -> None:
        if (event["node"], event.get("state")) in {("stubborn", "running"), ("stubborn", "stopping")}:
            begun[0].stop()

    run_dev(
        find_project(root, os.environ),
        (),
        DevOptions(),
        run.lines.append,
        twice,
        on_begin=lambda supervisor, bus: begun.append(supervisor),
    )

    assert any(line.startswith("[WARNING] stubborn: is killed, as the run is to end at once (") for line in run.lines)
    assert not [line for line in run.lines if line.startswith("[ERROR]")]


def test_a_source_on_the_command_line_beats_the_config(tmp_path: Path) -> None:
    camera = TICKER.replace("frames: int | None = None", 'source: str = "config"\n        frames: int = 1').replace(
        '"ticking"', "self.config.source"
    )
    root = make_project(tmp_path / "project", camera=camera)
    (tmp_path / "video.mp4").touch()
    run = Run(root)

    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        run.go(source="video.mp4")
    finally:
        os.chdir(here)

    assert f"[INFO] camera: {tmp_path}/video.mp4" in run.lines


def test_the_environment_is_laid_over_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    configure(root, "ticker", frames=1)
    configure(root, "ticker", environment="robot", frames=4)
    project = find_project(root, os.environ, "robot")

    summary = run_dev(project, (), DevOptions(), lambda line: None, lambda event: None)

    assert summary.nodes["ticker"].frames == 4


def test_unknown_nodes_and_no_nodes_are_told(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    with pytest.raises(NotFoundError) as unknown:
        Run(root).go("tikcer")
    with pytest.raises(NotFoundError) as none:
        Run(make_project(tmp_path / "empty")).go()

    assert 'did you mean "ticker"?' in str(unknown.value)
    assert str(none.value) == f"no nodes here: {tmp_path}/empty/nodes has no folder with a node.py"
    assert none.value.hint == "`mecha init` lays out a project with nodes."


def test_a_project_runs_once(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    project = find_project(root, os.environ)

    with BusPlace(root, os.environ).hosted(project.settings.bus), pytest.raises(BusyError):
        Run(root).go()


# What needs no process


def test_a_failed_node_is_started_again_later_and_later_and_then_no_more() -> None:
    policy = RestartPolicy()

    delays = [policy.delay_s(9, float(second), was_ready=True) for second in range(NodeSettings().restart_limit + 1)]

    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, None]
    assert policy.delay_s(-9, 200.0, was_ready=True) == 0.5


@pytest.mark.parametrize("code", [2, 3, 4, 6])
def test_what_will_not_go_away_by_itself_is_not_tried_again_unless_it_ran_before(code: int) -> None:
    assert RestartPolicy().delay_s(code, 0.0, was_ready=False) is None
    assert RestartPolicy().delay_s(code, 0.0, was_ready=True) == 0.5


def test_nodes_are_stopped_after_those_they_read_from() -> None:
    topics = {
        "tracker": (["/detections"], ["/tracks"]),
        "camera": ([], ["/rgb"]),
        "detector": (["/rgb", "/control"], ["/detections"]),
        "recorder": (["/rgb", "/tracks"], []),
        "never-ready": ([], []),
    }

    assert stop_order(topics) == (("camera", "never-ready"), ("detector",), ("tracker",), ("recorder",))


def test_nodes_in_a_circle_are_stopped_together() -> None:
    topics = {"a": (["/b"], ["/a"]), "b": (["/a"], ["/b"]), "own": (["/own"], ["/own"])}

    assert stop_order(topics) == (("own",), ("a", "b"))


@pytest.mark.parametrize(
    ("code", "words"), [(9, "exit code 9"), (-9, "signal SIGKILL"), (-200, "signal 200"), (0, "exit code 0")]
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert exit_words(code) == words
