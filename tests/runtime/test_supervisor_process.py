"""A supervisor as a process of its own, and nodes that are started by hand."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mecha.runtime.bus.place import BusPlace
from tests.runtime.background import Background
from tests.runtime.projects import COUNTER, STUBBORN, TICKER, add_node, configure, make_project
from tests.runtime.waiting import wait_for


def test_a_signal_ends_the_run_in_order_and_leaves_nothing(
    tmp_path: Path, background: Callable[[Path], Background]
) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    dev = background(root)
    wait_for(lambda: dev.said("Inference"), timeout_s=30)
    children = dev.children()
    assert len(dev.nodes()) == 2

    dev.process.send_signal(signal.SIGINT)

    assert dev.process.wait(20) == 130
    assert not any(child.is_running() for child in children)
    dev.reader.join(10)
    nodes = json.loads(dev.lines[-1])["nodes"]
    assert nodes["counter"]["frames"] + nodes["counter"]["dropped"] == nodes["ticker"]["frames"]


def test_nothing_outlives_a_supervisor_that_was_killed(
    tmp_path: Path, background: Callable[[Path], Background]
) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER, stubborn=STUBBORN)
    dev = background(root)
    wait_for(lambda: dev.said("hanging") and dev.said("Inference"), timeout_s=30)
    children = dev.children()
    assert len(dev.nodes()) == 3

    dev.process.kill()

    wait_for(lambda: not any(child.is_running() for child in children), timeout_s=10)
    dev.process.wait(10)
    again = background(root)
    wait_for(lambda: again.said("Inference"), timeout_s=30)


def test_a_node_that_was_killed_is_started_again(tmp_path: Path, background: Callable[[Path], Background]) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    dev = background(root)
    wait_for(lambda: dev.said("Inference"), timeout_s=30)
    victim = next(child for child in dev.children() if "counter" in child.cmdline())

    victim.kill()

    wait_for(lambda: dev.said("[ERROR] counter: ended with signal SIGKILL; it is started again"), timeout_s=20)
    before = len(dev.lines)
    wait_for(lambda: any("counter: Inference" in line for line in dev.lines[before:]), timeout_s=20)
    dev.process.terminate()
    assert dev.process.wait(20) == 0
    dev.reader.join(10)
    assert json.loads(dev.lines[-1])["nodes"]["counter"]["restarts"] == 1


def test_a_node_by_hand_joins_the_run(tmp_path: Path, background: Callable[[Path], Background]) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    configure(root, "ticker", frames=1)
    add_node(
        root,
        "once",
        """
        from mecha.runtime.messages import JsonMessage
        from mecha.runtime.node import Node

        class Once(Node):
            inputs = {"/count": JsonMessage}

            def step(self, message: JsonMessage) -> None:
                self.log.info("heard")
                self.finish()
        """,
    )
    configure(root, "ticker", frames=None)
    place = BusPlace(root, os.environ)
    (root / "nodes/once").rename(root / "once-for-later")
    dev = background(root)
    wait_for(lambda: dev.said("Inference"), timeout_s=30)
    (root / "once-for-later").rename(root / "nodes/once")

    by_hand = subprocess.run(
        [sys.executable, "-m", "mecha.runtime.run", "once", "--project", str(root)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (by_hand.returncode, by_hand.stdout) == (0, "")
    assert "[INFO] once: heard" in by_hand.stderr
    member = place.join(place.live_endpoint() or "")
    heard: list[bytes] = []
    member.subscribe("/count", lambda sample: heard.append(sample.payload))
    wait_for(lambda: heard)
    member.close()


def test_two_nodes_by_hand_find_each_other(tmp_path: Path) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    configure(root, "ticker", frames=None)

    def start(node: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mecha.runtime.run", node, "--project", str(root)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    with start("ticker") as ticker:
        wait_for(lambda: BusPlace(root, os.environ).live_endpoint(), timeout_s=30)
        with start("counter") as counter:
            assert counter.stderr is not None
            assert "Inference" in counter.stderr.readline()
            counter.terminate()
            counter.stderr.read()
        ticker.send_signal(signal.SIGINT)
        assert ticker.stderr is not None
        ticker.stderr.read()

    assert (counter.returncode, ticker.returncode) == (0, 130)
