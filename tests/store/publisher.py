"""Publishes two versions of a model in turn until it is killed; started by the crash test.

For each line on standard input it forks a publisher and prints its pid: importing again each time would cost a second.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

from mecha.store.exchange import exchange, no_exchange
from mecha.store.models import ModelStore
from tests.store.example import publish

VERSIONS = ("a", "b")
SIZE_BYTES = 1_000_000


def main(models_dir: str, how: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    store = ModelStore(Path(models_dir), swap=exchange if how == "exchange" else no_exchange)
    publish(store, "m", VERSIONS[0], size_bytes=SIZE_BYTES)
    print("ready", flush=True)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            for version in itertools.cycle(VERSIONS):
                publish(store, "m", version, size_bytes=SIZE_BYTES)
        print(pid, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
