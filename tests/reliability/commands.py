"""Runs several commands of `mecha` in one process, which imports once; each begins where the one before left the disk.

    python -m tests.reliability.commands '["models", "list"]' '["models", "verify", "blobs"]'

Writes one JSON line a command: its exit code and what it wrote.
"""

import contextlib
import io
import json
import sys
import traceback
from dataclasses import asdict, dataclass

from mecha.cli.app import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did; a traceback is in `said`, with the exit code 1."""

    code: int
    said: str


def run(*arguments: str) -> Outcome:
    """Run one command in this process, as `python -m mecha` would."""
    said = io.StringIO()
    code = 0
    sys.argv = ["mecha", *arguments]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - a traceback is what the caller looks for
            code = 1
            traceback.print_exc()
    return Outcome(code, said.getvalue())


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps(asdict(run(*json.loads(argument)))), file=sys.__stdout__, flush=True)
