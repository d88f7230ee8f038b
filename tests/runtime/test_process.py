"""The process of one node."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mecha.runtime.guard import Guard
from mecha.runtime.process import News, NodeExit, NodeProcess
from tests.runtime.projects import TICKER, make_project
from tests.runtime.waiting import wait_for


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
    environ = {**os.environ, "MECHA_BUS": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    node = NodeProcess("ticker", root, environ, Guard(), news.append)
    os.kill(node.pid, signal.SIGKILL)
    # Ended, and not waited for.
    seen(os.P_PID, node.pid, os.WEXITED | os.WNOWAIT)

    signalled(node)
    may_see.set()

    wait_for(lambda: any(isinstance(one, NodeExit) for one in news), what="the end is told")
    (end,) = [one for one in news if isinstance(one, NodeExit)]
    assert end.code == -signal.SIGKILL
    signalled(node)
