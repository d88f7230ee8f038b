"""Many processes that do random things to the models of two projects with one cache, at the same time.

python -m tests.reliability.crowd [--seconds 60] [--processes 20] [--seed 1]
"""

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.reliability.commands import run
from tests.reliability.moments import commands
from tests.reliability.robot import VERSIONS, Hubs, hubs, robot
from tests.service.conftest import Bench
from tests.store.example import environment

MODELS = ("blobs", "twin", "other")
# One for both projects, so that each also imports what the other one has.
BUNDLE = "../bundle.tar"
_CATALOG = """
[[models]]
name = "{name}"
task = "object-detection"
repo = "mecha/blobs"
filename = "{filename}"
license = "Apache-2.0"
"""
# Imported once, before the processes part: it would take each of them a second.
_IMPORTED = ("mecha.cli.models", "mecha.hub.huggingface", "mecha.hub.download", "mecha.service.pull", "huggingface_hub")


@dataclass(frozen=True, slots=True)
class Operation:
    """A command; "NAME" in it is one of the models.

    Attributes:
        codes: how it may end.
        weight: how often it is chosen, against the others.
        moves: it asks one of the two Hubs alone, which have different versions.
    """

    command: tuple[str, ...]
    codes: frozenset[int] = frozenset({0})
    weight: int = 1
    moves: bool = False


OPERATIONS = (
    Operation(("pull", "NAME"), weight=6),
    Operation(("pull", "NAME", "--force"), weight=2),
    Operation(("list", "--json"), weight=4),
    Operation(("verify", "NAME"), frozenset({0, 4}), weight=4),
    Operation(("show", "NAME", "--json"), weight=2),
    Operation(("remove", "NAME", "-y"), frozenset({0, 4}), weight=3),
    Operation(("gc",), weight=3),
    Operation(("gc", "--dry-run"), weight=1),
    Operation(("outdated",), frozenset({0, 1}), weight=1),
    Operation(("update", "NAME"), frozenset({0, 4}), weight=3, moves=True),
    Operation(("rollback", "NAME"), frozenset({0, 4}), weight=2),
    Operation(("export", "NAME", "-o", BUNDLE), frozenset({0, 4}), weight=2),
    Operation(("import", BUNDLE), frozenset({0, 4}), weight=2),
)


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of the projects, and the Hubs."""

    roots: list[Path]
    endpoints: list[str]


@dataclass(frozen=True, slots=True)
class Done:
    """What a crowd did.

    Attributes:
        operations: how often, by command.
        wrong: what ended as it must not.
    """

    operations: dict[str, int]
    wrong: list[str]


def projects(folder: Path, served: Hubs) -> tuple[Bench, Bench]:
    """Lay out two projects of the same three models, with one cache: two are the same file, one is another.

    Each knows both Hubs, and asks another one first.
    """
    endpoints = [served.endpoint(version) for version in VERSIONS]
    first = robot(folder / "robot", endpoints[0])
    second = Bench(folder / "robot" / "second", first.home, first.environ)
    second.root.mkdir()
    first.environ.pop("HF_ENDPOINT")
    for bench, asked in ((first, endpoints), (second, endpoints[::-1])):
        settings = bench.root / "configs" / "common" / "mecha.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"[hub]\nendpoints = {json.dumps(asked)}\n")
        bench.write_catalog(
            "".join(
                _CATALOG.format(name=name, filename="another.onnx" if name == "other" else "blobs.onnx")
                for name in MODELS
            )
        )
    return first, second


def crowd(benches: tuple[Bench, ...], served: Hubs, *, seconds: float, processes: int, seed: int) -> Done:
    """Let so many processes work for so long. They part from one that has imported everything, and has no threads."""
    options = ["--seconds", seconds, "--processes", processes, "--seed", seed, "--among", *(b.root for b in benches)]
    options += ["--endpoints", *(served.endpoint(version) for version in VERSIONS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.crowd", *map(str, options)],
        env={**benches[0].environment, "PYTHONPATH": environment()["PYTHONPATH"]},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Done(**json.loads(done.stdout))


def _crowded(roots: list[Path], endpoints: list[str], *, seconds: float, processes: int, seed: int) -> Done:
    known = run("models", "--help").said
    operations = [operation for operation in OPERATIONS if f"  {operation.command[0]} " in known]
    for module in _IMPORTED:
        importlib.import_module(module)
    places = Places(roots, endpoints)
    operated: Counter[str] = Counter()
    wrong: list[str] = []
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        pids = [
            _started(Path(folder) / str(number), _worked(places, operations, deadline, random.Random(seed + number)))
            for number in range(processes)
        ]
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        for file in sorted(Path(folder).iterdir()):
            for line in file.read_text().splitlines():
                name, fault = json.loads(line)
                operated[name] += 1
                wrong.extend([fault] if fault else [])
    return Done(dict(operated), [*wrong, *(f"a process ended with {end}" for end in ends if end)])


def _started(result: Path, working: Iterator[str]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with result.open("w") as file:
                for line in working:
                    file.write(line + "\n")
            code = 0
        finally:
            os._exit(code)
    return pid


def _worked(places: Places, operations: list[Operation], deadline: float, chance: random.Random) -> Iterator[str]:
    weights = [operation.weight for operation in operations]
    while time.monotonic() < deadline:
        operation = chance.choices(operations, weights)[0]
        os.chdir(chance.choice(places.roots))
        os.environ.pop("HF_ENDPOINT", None)
        if operation.moves:
            os.environ["HF_ENDPOINT"] = chance.choice(places.endpoints)
        words = [chance.choice(MODELS) if word == "NAME" else word for word in operation.command]
        outcome = run("models", *words)
        fault = outcome.code not in operation.codes or "Traceback" in outcome.said or '"broken"' in outcome.said
        yield json.dumps([words[0], f"{' '.join(words)}: {outcome.code}: {outcome.said}" if fault else ""])


def faults_at_last(benches: tuple[Bench, ...]) -> list[str]:
    """Pull and verify all models; return what is not as it must be."""
    return [
        f"{' '.join(command)}: {outcome}"
        for bench in benches
        for name in MODELS
        for command in (("models", "pull", name), ("models", "verify", name))
        for outcome in commands(bench, command)
        if outcome.code != 0
    ]


def main() -> int:
    """Run a crowd, pull and verify everything, and print what was done."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--processes", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--among", nargs="+", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--endpoints", nargs="+", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    size = {"seconds": options.seconds, "processes": options.processes, "seed": options.seed}
    if options.among:
        print(json.dumps(asdict(_crowded(options.among, options.endpoints, **size))), file=sys.__stdout__)
        return 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, hubs(Path(folder) / "hubs") as served:
        benches = projects(Path(folder), served)
        done = crowd(benches, served, **size)
        wrong = [*done.wrong, *faults_at_last(benches)]
    for fault in wrong:
        print(fault)
    print(f"{sum(done.operations.values())} operations, {len(wrong)} not as they must be: {done.operations}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
