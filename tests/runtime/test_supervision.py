"""What the supervisor does for each node: liveness, readiness, policies, orders. With real processes."""

import os
from pathlib import Path

import psutil
import pytest

from mecha.errors import ConfigError
from mecha.project import NodeSettings, find_project
from mecha.runtime.restart import RestartPolicy
from tests.runtime.projects import COUNTER, TICKER, configure, make_project
from tests.runtime.supervision import Played, settle

HANGER = """
    import time
    from mecha.runtime.messages import FrameMessage
    from mecha.runtime.node import Node

    class Hanger(Node):
        inputs = {"/camera/rgb": FrameMessage}

        def step(self, message: FrameMessage) -> None:
            flag = self.root / "hung"
            if not flag.exists():
                flag.touch()
                time.sleep(1000)
            self.report_inference(1.0, "FP32", message.seq)
"""

SLEEPER = """
    import time
    from mecha.runtime.node import Node

    class Sleeper(Node):
        def setup(self) -> None:
            flag = self.root / "slept"
            if self.root.name == "always" or not flag.exists():
                flag.touch()
                time.sleep(1000)
            self.log.info("awake")

        def step(self, message: None) -> None:
            self.wait(0.05)
"""

BROKEN = """
    from mecha.runtime.node import Node

    class Broken(Node):
        def setup(self) -> None:
            raise ValueError("as ever")
"""

BRIEF = """
    from mecha.runtime.node import Node

    class Brief(Node):
        def step(self, message: None) -> None:
            self.log.info("done")
            self.finish()
"""


def test_a_node_that_hangs_is_killed_and_started_again_and_says_where_it_hung(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, hanger=HANGER, counter=COUNTER)
    settle(root, "[nodes.hanger]\nheartbeat_s = 2\n")
    run = Played(root)

    def then() -> None:
        run.wait_until("running", "hung", "restarting", "starting", "running", node="hanger")
        run.wait_for_more("inference", node="hanger")

    summary = run.go(then)

    pid = run.of("hanger", "state")[0]["pid"]
    assert (summary.exit_code, summary.failure) == (0, "")
    assert f"[ERROR] hanger: no sign of life for 2 s; it is killed ({pid})" in run.lines
    assert "[ERROR] hanger: no sign of life for 2 s; it is started again in 0.5 s" in run.lines
    assert run.said(f'File "{root}/nodes/hanger/node.py", line 13 in step')
    reasons = {event["state"]: event["reason"] for event in run.of("hanger", "state")}
    assert reasons["hung"] == reasons["restarting"] == "no sign of life for 2 s"
    assert (summary.nodes["hanger"].restarts, summary.nodes["counter"].restarts) == (1, 0)
    assert summary.nodes["hanger"].state == "ended"
    assert not psutil.pid_exists(pid)


def test_a_node_that_is_not_ready_in_time_is_started_again_and_the_others_begin(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER, sleeper=SLEEPER)
    settle(root, "[nodes.sleeper]\nready_s = 2\n")
    run = Played(root)

    def then() -> None:
        run.wait_until("starting", "hung", "restarting", "starting", node="sleeper")
        run.wait_until("running", node="counter")

    summary = run.go(then)

    assert summary.exit_code == 0
    assert run.said("[ERROR] sleeper: not ready after 2 s; it is killed (")
    assert "[WARNING] sleeper: is not ready after 2 s; the others begin without it" in run.lines
    assert summary.nodes["sleeper"].restarts >= 1


def test_a_node_that_is_never_ready_ends_the_run_once_its_tries_are_used_up(tmp_path: Path) -> None:
    root = make_project(tmp_path / "always", ticker=TICKER, sleeper=SLEEPER)
    settle(root, "[nodes.sleeper]\nready_s = 0.5\nrestart_limit = 1\nrestart_window_s = 0.1\n")

    summary = Played(root).go()

    assert (summary.exit_code, summary.failure) == (9, "sleeper: not ready after 0.5 s, 1 times in a short while")


def test_a_node_that_is_not_essential_may_fail_for_good(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER, broken=BROKEN)
    settle(root, '[nodes.broken]\nrestart = "never"\nessential = false\n')
    configure(root, "ticker", frames=20)
    run = Played(root)

    summary = run.go()

    assert (summary.exit_code, summary.failure) == (0, "")
    assert {name: stats.state for name, stats in summary.nodes.items()} == {
        "broken": "failed",
        "counter": "ended",
        "ticker": "ended",
    }
    assert summary.to_json()["nodes"]["broken"]["state"] == "failed"
    where = f"{root}/nodes/broken/node.py:6"
    assert (
        f"[ERROR] broken: ValueError: as ever ({where}); it is not started again, and the others go on without it"
        in run.lines
    )
    assert run.states("broken") == ["starting", "failed"]


def test_a_node_that_is_never_started_again_ends_the_run_with_its_exit_code(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, broken=BROKEN)
    settle(root, '[nodes.broken]\nrestart = "never"\n')

    summary = Played(root).go()

    assert (summary.exit_code, summary.failure) == (9, f"broken: ValueError: as ever ({root}/nodes/broken/node.py:6)")


def test_a_node_that_always_runs_is_started_again_after_it_ended_well(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, brief=BRIEF)
    settle(root, '[nodes.brief]\nrestart = "always"\n')
    run = Played(root)

    summary = run.go(lambda: run.wait_until("running", "restarting", "running", "restarting", node="brief"))

    assert summary.exit_code == 0
    assert summary.nodes["brief"].restarts >= 2
    assert "[INFO] brief: ended with exit code 0; it is started again in 0.5 s" in run.lines


def test_nodes_are_paused_resumed_and_started_again_on_request(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    run = Played(root)
    frames: list[int] = []

    def then() -> None:
        run.wait_for_more("inference", node="counter")
        run.supervisor.pause("counter")
        run.wait_until("paused", node="counter")
        # What was on its way then is done with when it tells that it lives.
        run.wait_for_more("stats", node="counter", count=2)
        frames.append(len(run.of("counter", "inference")))
        run.supervisor.restart("counter")
        run.wait_until("restarting", "starting", "ready", "paused", node="counter")
        run.wait_for_more("stats", node="counter", count=2)
        frames.append(len(run.of("counter", "inference")))
        run.supervisor.resume("counter")
        run.wait_for_more("inference", node="counter")
        run.supervisor.pause("nobody")

    summary = run.go(then)

    assert summary.exit_code == 0
    assert frames[0] == frames[1]
    assert summary.nodes["counter"].restarts == 1
    assert summary.nodes["counter"].dropped > 0
    first, second = dict.fromkeys(event["pid"] for event in run.of("counter", "state") if event["pid"])
    assert first != second
    assert "[INFO] counter: is started again: asked for" in run.lines
    paused = [event for event in run.of("counter", "stats") if event["fps_out"] == 0.0 and event["fps_in"] > 0]
    assert paused, "what waits is told while nothing is done"


def test_stats_say_how_a_node_does(tmp_path: Path) -> None:
    teller = """
        from mecha.runtime.messages import FrameMessage, JsonMessage
        from mecha.runtime.node import Node

        class Teller(Node):
            inputs = {"/camera/rgb": FrameMessage}

            def step(self, message: FrameMessage) -> None:
                self.report_inference(6.0, "INT8", message.seq, {"pre": 1.0, "session": 3.0, "post": 2.0})
                self.mark_stale(True)
                self.mark_degraded("skip 2")
    """
    root = make_project(tmp_path, ticker=TICKER, teller=teller)
    run = Played(root)

    run.go(lambda: run.wait_for_more("stats", node="teller"))

    last = run.of("teller", "stats")[-1]
    assert last["stages"] == {
        "pre": {"p50": 1.0, "p95": 1.0},
        "session": {"p50": 3.0, "p95": 3.0},
        "post": {"p50": 2.0, "p95": 2.0},
    }
    assert (last["precision"], last["stale"], last["degraded"]) == ("INT8", True, "skip 2")
    assert last["fps_in"] > 0
    assert last["fps_out"] is None
    assert last["cpu_percent"] >= 0
    assert run.of("ticker", "stats")[-1]["fps_in"] is None
    assert run.of("ticker", "stats")[-1]["fps_out"] > 0
    assert run.of("teller", "inference")[0]["stages"] == {"pre": 1.0, "session": 3.0, "post": 2.0}


# What needs no process


@pytest.mark.parametrize(
    ("mode", "code", "again"),
    [
        ("on-failure", 9, True),
        ("on-failure", 0, False),
        ("always", 9, True),
        ("always", 0, True),
        ("never", -9, False),
        ("never", 0, False),
    ],
)
def test_a_policy_says_which_ends_are_started_again(mode: str, code: int, again: bool) -> None:
    policy = RestartPolicy(NodeSettings.model_validate({"restart": mode}))

    assert (policy.delay_s(code, 0.0, was_ready=True) is not None) == again


def test_failures_outside_of_the_window_do_not_count_but_failed_starts_in_a_row_do() -> None:
    settings = NodeSettings(restart_limit=2, restart_window_s=10)
    policy = RestartPolicy(settings)

    ran = [policy.delay_s(9, moment, was_ready=True) for moment in (0.0, 1.0, 12.0, 13.0, 14.0)]
    starts = RestartPolicy(settings)
    failed = [starts.delay_s(-9, moment, was_ready=True, ready=False) for moment in (0.0, 60.0, 120.0)]

    assert ran == [0.5, 1.0, 0.5, 1.0, None]
    assert failed == [0.5, 1.0, None]
    assert policy.exhausted
    assert starts.exhausted


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[nodes.camera]\nrestart = "sometimes"\n',
            ':2: nodes.camera.restart: got "sometimes"; expected on-failure, never or always',
        ),
        (
            "[nodes.camera]\nheartbeat_s = 1\n",
            ":2: nodes.camera.heartbeat_s: got 1; expected seconds, 2 or more; or 0, for as long as it likes",
        ),
        ("[nodes.camera]\nready_s = 0\n", ":2: nodes.camera.ready_s: got 0; expected seconds, more than 0"),
        (
            "[nodes.camera]\nrestart_limit = -1\n",
            ":2: nodes.camera.restart_limit: got -1; expected a number of restarts, 0 or more",
        ),
        (
            "[nodes.camera]\nesential = true\n",
            ':2: nodes.camera.esential: unknown key; did you mean "essential"?',
        ),
    ],
)
def test_faulty_settings_of_a_node_are_told(tmp_path: Path, text: str, fault: str) -> None:
    root = make_project(tmp_path)
    settle(root, text)

    with pytest.raises(ConfigError) as caught:
        find_project(root, os.environ)

    assert str(caught.value) == f"configs/common/mecha.toml{fault}"


def test_settings_of_a_node_that_is_not_there_are_told(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    settle(root, "[nodes.tikcer]\nready_s = 5\n")

    with pytest.raises(ConfigError) as caught:
        Played(root).go()

    assert str(caught.value) == ('configs/common/mecha.toml:1: nodes.tikcer: no such node; did you mean "ticker"?')
