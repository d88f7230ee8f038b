"""Runs several commands of `mecha` in one process, which imports once; each begins where the one before left the disk.

    python -m tests.reliability.commands '["models", "list"]' '["models", "verify", "blobs"]'

Writes one JSON line a command: its exit code and what it wrote. With no arguments, each line of standard input is a
folder of a robot and its commands, as JSON, and one line answers it.
"""

import contextlib
import io
import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

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


def answer(line: str) -> str:
    """Run the commands of a line in the folder that it names."""
    folder, commands = json.loads(line)
    os.chdir(Path(folder) / "project")
    os.environ["MECHA_CACHE_DIR"] = str(Path(folder) / "home" / "cache")
    return json.dumps([asdict(run(*command)) for command in commands])


if __name__ == "__main__":
    arguments = sys.argv[1:]
    for argument in arguments:
        print(json.dumps(asdict(run(*json.loads(argument)))), file=sys.__stdout__, flush=True)
    for line in () if arguments else sys.stdin:
        print(answer(line), file=sys.__stdout__, flush=True)
