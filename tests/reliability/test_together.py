"""Many processes at the same time: one transfer for all of them, and nothing broken by any order of things."""

import os
from pathlib import Path

import pytest

from tests.reliability.crowd import crowd, faults_at_last, projects
from tests.reliability.robot import NAME, hubs, robot
from tests.service.conftest import Bench

PROCESSES = 8
SECONDS = 8


def test_eight_processes_that_pull_the_same_model_at_once_transfer_it_once(tmp_path: Path) -> None:
    """Half of them in another project, with the same cache."""
    with hubs(tmp_path / "hubs") as served:
        first = robot(tmp_path / "first", served.endpoint("old"))
        second = Bench(tmp_path / "second", first.home, first.environ)
        second.root.mkdir()
        second.write_catalog((first.root / "model_catalog.toml").read_text())
        mirror = served.mirrors["old"]
        before = mirror.bytes_served
        running = [
            bench.start("models", "pull", NAME, "--limit-rate", "100k")
            for bench in (first, second)
            for _ in range(PROCESSES // 2)
        ]
        said = [process.communicate(timeout=120)[0] for process in running]
        assert [process.returncode for process in running] == [0] * PROCESSES, said
        assert mirror.bytes_served - before <= 1.1 * served.size_bytes
        assert any("waiting for process" in text for text in said)
        for bench in (first, second):
            assert bench.command("models", "verify", NAME).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the crowd forks")
def test_twenty_processes_that_do_random_things_break_nothing(tmp_path: Path) -> None:
    with hubs(tmp_path / "hubs") as served:
        benches = projects(tmp_path, served)
        done = crowd(benches, served, seconds=SECONDS, processes=20, seed=5)
        assert done.wrong == []
        assert {"pull", "verify", "remove", "list"} <= done.operations.keys()
        assert faults_at_last(benches) == []
