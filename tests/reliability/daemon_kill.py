"""SIGKILL for the daemon at many random moments; each followed by what is left, and by its next start.

python -m tests.reliability.daemon_kill --moments 100 [--seed 1] [--only KIND]
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

from tests.reliability.daemon_kills import KINDS, Kill, chosen, robot


def main() -> int:
    """Kill so often, and print a table; 1 when something was not as it must be."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--moments", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--only", choices=[kind.name for kind in KINDS])
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    kinds = chosen(options.moments, chance)
    if options.only:
        kinds = [kind for kind in KINDS if kind.name == options.only] * options.moments
    kills: list[Kill] = []
    folder = tempfile.TemporaryDirectory(prefix="mecha-", ignore_cleanup_errors=True)
    with folder, robot(Path(folder.name)) as killed:
        for kind in kinds:
            kills.append(killed.kill(kind, chance))
            print(f"{len(kills)}: {kind.name}, {kills[-1].moment}: ready in {kills[-1].ready_s:.1f} s", flush=True)
            for fault in kills[-1].faults:
                print(f"  {fault}", flush=True)
            if killed.daemon.process.poll() is not None:
                killed.daemon.start()
                killed.daemon.wait_until_ready()
    tried = Counter(kill.kind for kill in kills)
    faulty = Counter(kill.kind for kill in kills if kill.faults)
    print("| killed in | moments | not as it must be | ready again, median |\n|---|--:|--:|--:|")
    for name in tried:
        again_s = median(kill.ready_s for kill in kills if kill.kind == name)
        print(f"| {name} | {tried[name]} | {faulty[name]} | {again_s:.1f} s |")
    print(f"| all | {tried.total()} | {faulty.total()} | {median(kill.ready_s for kill in kills):.1f} s |")
    return int(bool(faulty))


if __name__ == "__main__":
    sys.exit(main())
