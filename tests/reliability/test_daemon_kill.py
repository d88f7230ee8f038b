"""A few of the moments of `python -m tests.reliability.daemon_kill`."""

import random
import sys
from pathlib import Path

import pytest

from tests.reliability.daemon_kills import KINDS, robot

SOME = ("publication", "other code", "start")


@pytest.mark.skipif(sys.platform == "win32", reason="asks over a Unix socket")
def test_a_daemon_that_is_killed_at_any_moment_leaves_no_process_and_is_ready_after_the_next_start(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    with robot(tmp_path) as killed:
        kills = [killed.kill(kind, chance) for kind in KINDS if kind.name in SOME]
        assert killed.daemon.stop() == 0
    assert [kill for kill in kills if kill.faults] == []
    assert len(kills) == len(SOME)
