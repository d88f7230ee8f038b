"""The process of one node."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mecha.runtime.guard import Guard
from mecha.runtime.process import News, NodeExit, NodeLine, NodeProcess
from tests.runtime.projects import TICKER, make_project
from tests.runtime.waiting import wait_for


def environ() -> dict[str, str]:
    return {**os.environ, "MECHA_BUS": "", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="this system waits in another way")
@pytest.mark.parametrize("signalled", [NodeProcess.stop, NodeProcess.show_where, NodeProcess.kill])
def test_an_end_is_told_however_late_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled: Callable[[NodeProcess], None]
) -> None:
    root = make_project(tmp_path, ticker=TICKER)
    may_see, news = threading.Event(), list[News]()
    seen = os.waitid

    def late(kind: int, pid: int, options: int) -> object:
        may_see.wait(30)
        return seen(kind, pid, options)

    monkeypatch.setattr(os, "waitid", late)
    node = NodeProcess("ticker", root, environ(), Guard(), news.append)
    os.kill(node.pid, signal.SIGKILL)
    # Ended, and not waited for.
    seen(os.P_PID, node.pid, os.WEXITED | os.WNOWAIT)

    signalled(node)
    may_see.set()

    wait_for(lambda: any(isinstance(one, NodeExit) for one in news), what="the end is told")
    (end,) = [one for one in news if isinstance(one, NodeExit)]
    assert end.code == -signal.SIGKILL
    signalled(node)


HOLDER = """
    import os, subprocess, sys
    from mecha.runtime.node import Node

    class Holder(Node):
        def step(self, message: None) -> None:
            held = subprocess.Popen(["sleep", "60"], stderr=subprocess.DEVNULL, start_new_session=True)
            print(held.pid, file=sys.stderr, flush=True)
            os._exit(3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="starts a session")
def test_an_end_is_told_though_another_process_holds_the_output(tmp_path: Path) -> None:
    root, news = make_project(tmp_path, holder=HOLDER), list[News]()
    node = NodeProcess("holder", root, environ(), Guard(), news.append)
    try:
        wait_for(lambda: any(isinstance(one, NodeExit) for one in news), timeout_s=30, what="the end is told")
    finally:
        held = [int(one.text.rsplit(" ", 1)[1]) for one in news if isinstance(one, NodeLine)]
        for pid in held:
            os.kill(pid, signal.SIGKILL)
    assert len(held) == 1
    assert news[-1] == NodeExit(node, 3)
