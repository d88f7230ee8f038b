"""SIGKILL at many random moments; each followed by list, verify and pull.

python -m tests.reliability.kill --moments 200 [--seed 1] [--only NAME]
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.reliability.moments import SCENARIOS, Kill, chosen, killer


def main() -> int:
    """Kill so often, and print a table; 1 when something was not as it must be."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--moments", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--only", choices=[scenario.name for scenario in SCENARIOS])
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, killer(Path(folder)) as kills_of:
        scenarios = chosen(options.moments, chance)
        if options.only:
            scenarios = [scenario for scenario in SCENARIOS if scenario.name == options.only] * options.moments
        for scenario in scenarios:
            kills.append(kills_of.kill(scenario, chance))
            for fault in kills[-1].faults:
                print(f"{scenario.name}, {kills[-1].moment}: {fault}", flush=True)
    tried, hit = Counter(kill.scenario for kill in kills), Counter(kill.scenario for kill in kills if kill.hit)
    faulty = Counter(kill.scenario for kill in kills if kill.faults)
    print("| killed in | moments | still running | not as it must be |\n|---|--:|--:|--:|")
    for name in tried:
        print(f"| {name} | {tried[name]} | {hit[name]} | {faulty[name]} |")
    print(f"| all | {tried.total()} | {hit.total()} | {faulty.total()} |")
    return int(bool(faulty))


if __name__ == "__main__":
    sys.exit(main())
