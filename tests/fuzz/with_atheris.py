"""Fuzzing led by coverage: `python -m tests.fuzz.with_atheris NAME [options]`; it needs `pip install atheris`.

New inputs are kept in the folder that is named, or in a temporary one; `-max_total_time=60` ends it after a
minute. What breaks a target is written to crash-…: put it into tests/fuzz/corpus/NAME: the suite tries it then.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mecha", "tomli", "minisign"]):
    from tests.fuzz.targets import CORPUS, TARGETS, run


def main() -> None:
    """Fuzz the target that the command line names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.with_atheris {{{','.join(TARGETS)}}} [libFuzzer options]")
    name, options = sys.argv[1], sys.argv[2:]
    # libFuzzer writes what it finds new into the first folder.
    folders = [option for option in options if not option.startswith("-")] or [tempfile.mkdtemp(prefix="mecha-fuzz-")]
    target = TARGETS[name]
    atheris.Setup(
        [sys.argv[0], *[option for option in options if option.startswith("-")], *folders, str(Path(CORPUS) / name)],
        lambda data: run(target, data),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
