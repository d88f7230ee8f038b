"""A few of the moments of `python -m tests.reliability.kill`."""

import random
import sys
from pathlib import Path

import pytest

from tests.reliability.moments import SCENARIOS, chosen, killer

MOMENTS = 20


@pytest.mark.skipif(sys.platform != "linux", reason="copies robots with cp -a")
def test_a_command_that_is_killed_at_any_moment_leaves_a_whole_model_and_the_next_pull_recovers(
    tmp_path: Path,
) -> None:
    chance = random.Random(4)
    with killer(tmp_path) as killing:
        kills = [killing.kill(scenario, chance) for scenario in chosen(MOMENTS, chance)]
    assert [kill for kill in kills if kill.faults] == []
    assert {kill.scenario for kill in kills} == {scenario.name for scenario in SCENARIOS}
    assert sum(kill.hit for kill in kills) >= MOMENTS // 2, "most moments came too late"
