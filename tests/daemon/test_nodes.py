"""The nodes of the daemon: any set of them, for as long as it lives. With real processes on a real bus."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mecha.daemon.nodes import Nodes
from mecha.daemon.state import DaemonState
from mecha.errors import BusyError, NetworkError, NodeError, NotFoundError
from mecha.project import find_project
from mecha.runtime.messages import ControlMessage
from tests.runtime.projects import COUNTER, TICKER, configure, make_project
from tests.runtime.supervision import PATIENCE_S, settle
from tests.runtime.waiting import wait_for

if TYPE_CHECKING:
    from mecha.runtime.bus import Sample

BROKEN = """
    from mecha.runtime.node import Node

    class Broken(Node):
        def setup(self) -> None:
            if not (self.root / "mended").exists():
                raise ValueError("as ever")
"""


class Run:
    """Nodes, and what is known of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.state = DaemonState()
        self.nodes = Nodes(find_project(root, os.environ), os.environ, on_line=self.lines.append, on_event=self._take)

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.state.take_event(event)

    def wait_for_state(self, node: str, state: str) -> None:
        def reached() -> bool:
            known = self.state.node(node)
            return known is not None and known.state == state

        wait_for(reached, timeout_s=PATIENCE_S, what=f"{node}: {state}")

    def pid(self, node: str) -> int | None:
        known = self.state.node(node)
        return known.pid if known is not None else None


@pytest.fixture
def begun() -> Iterator[Callable[[Path], Run]]:
    runs: list[Run] = []

    def begin(root: Path) -> Run:
        runs.append(Run(root))
        return runs[-1]

    yield begin
    for run in runs:
        run.nodes.stop()


def test_nodes_come_and_go_while_the_others_run_on(tmp_path: Path, begun: Callable[[Path], Run]) -> None:
    run = begun(make_project(tmp_path, ticker=TICKER, counter=COUNTER))
    run.nodes.start(())
    assert run.nodes.alive
    run.nodes.start(["ticker"])
    run.wait_for_state("ticker", "running")
    ticker = run.pid("ticker")

    run.nodes.start(["ticker", "counter"])
    run.wait_for_state("counter", "running")
    wait_for(lambda: any(one["event"] == "inference" for one in run.events), timeout_s=PATIENCE_S)
    run.nodes.start(["ticker"])
    run.wait_for_state("counter", "ended")
    run.nodes.start(["counter", "ticker"])
    run.wait_for_state("counter", "running")

    assert run.pid("ticker") == ticker
    run.nodes.stop()
    assert [node.state for node in run.state.nodes()] == ["ended", "ended"]
    assert not run.nodes.alive


def test_a_node_that_fails_for_good_ends_nothing_else_and_can_be_started_again(
    tmp_path: Path, begun: Callable[[Path], Run]
) -> None:
    root = make_project(tmp_path, ticker=TICKER, broken=BROKEN)
    settle(root, "[nodes.broken]\nrestart = 'never'\n")
    run = begun(root)
    run.nodes.start(["ticker", "broken"])
    run.wait_for_state("broken", "failed")
    run.wait_for_state("ticker", "running")
    assert any(line.endswith("; it stays away for now, and the others go on without it") for line in run.lines)

    (root / "mended").touch()
    run.nodes.restart("broken", "it failed before")
    run.wait_for_state("broken", "running")
    assert "[INFO] broken: is started again: it failed before" in run.lines


def test_a_source_that_has_finished_does_not_end_the_run(tmp_path: Path, begun: Callable[[Path], Run]) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    configure(root, "ticker", frames=3)
    run = begun(root)
    run.nodes.start(["ticker", "counter"])
    run.wait_for_state("ticker", "ended")
    assert run.nodes.alive
    run.nodes.restart("ticker")
    wait_for(lambda: run.lines.count("[INFO] ticker: ticking") == 2, timeout_s=PATIENCE_S)
    run.wait_for_state("counter", "running")


def test_other_settings_of_a_node_start_only_that_one_again(tmp_path: Path, begun: Callable[[Path], Run]) -> None:
    root = make_project(tmp_path, ticker=TICKER, counter=COUNTER)
    run = begun(root)
    run.nodes.start(["ticker", "counter"])
    for node in ("ticker", "counter"):
        run.wait_for_state(node, "running")
    ticker, counter = run.pid("ticker"), run.pid("counter")
    settle(root, "[nodes.counter]\nheartbeat_s = 30\n")
    run.nodes.reload(find_project(root, os.environ))
    wait_for(lambda: run.pid("counter") not in (None, counter), timeout_s=PATIENCE_S)
    run.wait_for_state("counter", "running")
    assert run.pid("ticker") == ticker


def test_a_bus_that_cannot_be_opened_leaves_all_as_it_was(tmp_path: Path, begun: Callable[[Path], Run]) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    run = begun(root)
    run.nodes.start(["ticker"])
    run.wait_for_state("ticker", "running")
    settle(root, "[bus]\nlisten = ['nowhere']\n")
    with pytest.raises(NetworkError):
        run.nodes.reload(find_project(root, os.environ))
    assert (run.nodes.alive, run.nodes.names) == (True, ("ticker",))
    run.wait_for_state("ticker", "running")


def test_a_command_reaches_the_bus_and_orders_name_nodes_that_are_there(
    tmp_path: Path, begun: Callable[[Path], Run]
) -> None:
    run = begun(make_project(tmp_path, ticker=TICKER))
    with pytest.raises(NodeError, match=r"^no nodes run here just now: the daemon begins or ends$"):
        run.nodes.control(ControlMessage(use_int8=True))
    run.nodes.start(["ticker"])
    heard: list[Sample] = []
    run.nodes.bus.subscribe("/vision/object/control", heard.append)
    run.nodes.control(ControlMessage(use_int8=True))
    wait_for(lambda: bool(heard), timeout_s=PATIENCE_S)
    assert heard[0].payload == b'{"use_int8":true}'
    with pytest.raises(NotFoundError, match=r'^no node "tickr" runs here; did you mean "ticker"[?]$') as caught:
        run.nodes.pause("tickr")
    assert caught.value.hint == "The nodes that run are ticker."


def test_a_project_whose_nodes_run_already_is_refused(tmp_path: Path, begun: Callable[[Path], Run]) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    begun(root).nodes.start(())
    with pytest.raises(BusyError, match=r"^this project runs already: process [0-9]+ hosts its bus$"):
        begun(root).nodes.start(())
