"""SIGKILL for each process of a run in turn, its supervisor too: nothing is left, nothing is corrupt."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from mecha.runtime.guard import Guard
from tests.runtime.background import Background, alive
from tests.runtime.projects import COUNTER, TICKER, make_project
from tests.runtime.supervision import PATIENCE_S, Played, settle
from tests.runtime.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no process groups")

PARENT = """
    import subprocess
    import time
    from mecha.runtime.messages import FrameMessage
    from mecha.runtime.node import Node

    class Parent(Node):
        inputs = {"/camera/rgb": FrameMessage}

        def setup(self) -> None:
            subprocess.Popen(["sleep", "1000"])
            self.log.info("has a child")

        def step(self, message: FrameMessage) -> None:
            self.report_inference(1.0, "FP32", message.seq)
"""
"""Starts a process that knows nothing of mecha."""


def beating(dev: Background, *nodes: str) -> None:
    """Wait until nodes work on frames that come now."""
    before = len(dev.lines)
    for node in nodes:
        wait_for(
            lambda node=node: any(f"{node}: Inference" in line for line in dev.lines[before:]),  # type: ignore[misc]
            timeout_s=PATIENCE_S,
            what=f"{node} works",
        )


def test_each_process_in_turn_is_killed_and_then_the_supervisor(
    tmp_path: Path, background: Callable[[Path], Background]
) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER, parent=PARENT)
    dev = background(root)
    beating(dev, "counter", "parent")
    known = set(dev.children())
    for name in ("counter", "ticker", "parent"):
        victim = dev.node(name)
        its_own = victim.children(recursive=True)

        victim.kill()

        wait_for(lambda name=name: dev.said(f"[ERROR] {name}: ended with signal SIGKILL"), timeout_s=PATIENCE_S)  # type: ignore[misc]
        beating(dev, "counter", "parent")
        assert not any(alive(child) for child in (victim, *its_own)), f"{name}: its processes go with it"
    known |= set(dev.children())
    assert len([child for child in known if alive(child) and "sleep" in child.cmdline()]) == 1

    dev.process.kill()

    wait_for(lambda: not any(alive(child) for child in known), timeout_s=PATIENCE_S, what="nothing is left")
    dev.process.wait(10)
    again = background(root)
    beating(again, "counter", "parent")
    again.process.terminate()
    assert again.process.wait(PATIENCE_S) == 0
    again.reader.join(10)
    assert {name: stats["restarts"] for name, stats in json.loads(again.lines[-1])["nodes"].items()} == {
        "counter": 0,
        "parent": 0,
        "ticker": 0,
    }


def test_a_run_goes_on_without_its_guard_and_still_leaves_nothing(
    tmp_path: Path, background: Callable[[Path], Background]
) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    dev = background(root)
    beating(dev, "counter")
    children = dev.children()
    (guard,) = (child for child in children if child not in dev.nodes())

    guard.kill()
    dev.node("counter").kill()
    wait_for(lambda: dev.said("[ERROR] counter: ended with signal SIGKILL"), timeout_s=PATIENCE_S)
    beating(dev, "counter")
    children += dev.children()
    dev.process.kill()

    wait_for(lambda: not any(alive(child) for child in children), timeout_s=PATIENCE_S)


def test_a_supervisor_that_was_stopped_for_a_while_takes_no_node_for_dead(
    tmp_path: Path, background: Callable[[Path], Background]
) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    settle(root, "[nodes.counter]\nheartbeat_s = 2\n[nodes.ticker]\nheartbeat_s = 2\n")
    dev = background(root)
    beating(dev, "counter")
    pids = {node.pid for node in dev.nodes()}

    dev.process.send_signal(signal.SIGSTOP)
    until_s = time.monotonic() + 4
    wait_for(lambda: time.monotonic() > until_s)
    dev.process.send_signal(signal.SIGCONT)

    beating(dev, "counter")
    beating(dev, "counter")
    assert {node.pid for node in dev.nodes()} == pids
    assert not dev.said("no sign of life")


def test_no_frame_is_unaccounted_for_when_a_node_is_killed_or_started_again(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    run = Played(root)

    def then() -> None:
        run.wait_for_more("stats", node="counter", count=3)
        run.wait_for_more("inference", node="counter")
        os.kill(run.pid("counter"), signal.SIGKILL)
        run.wait_until("running", "restarting", "running", node="counter")
        run.wait_for_more("inference", node="counter")
        run.supervisor.pause("counter")
        run.wait_until("paused", node="counter")
        run.wait_for_more("stats", node="counter")
        run.supervisor.restart("counter")
        run.wait_until("paused", "restarting", "paused", node="counter")
        run.supervisor.resume("counter")
        run.wait_for_more("inference", node="counter")

    summary = run.go(then)

    counter, ticker = summary.nodes["counter"], summary.nodes["ticker"]
    assert counter.restarts == 2
    assert counter.frames + counter.dropped == ticker.frames
    assert counter.seen == {"/camera/rgb": ticker.frames - 1}


def test_a_guard_kills_what_was_added_and_not_removed() -> None:
    guard = Guard()
    guard.start()
    with ExitStack() as stack:
        groups = [stack.enter_context(subprocess.Popen(["sleep", "1000"], start_new_session=True)) for _ in range(4)]
        for group in groups:
            stack.callback(group.kill)
            guard.add(group.pid)
        guard.remove(groups[1].pid)
        guard.remove(groups[3].pid)

        guard.close()

        assert [group.wait(PATIENCE_S) for group in (groups[0], groups[2])] == [-9, -9]
        assert [group.poll() for group in (groups[1], groups[3])] == [None, None]
