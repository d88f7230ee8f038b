"""One SIGKILL at a random moment of a command, and what list, verify and pull find afterwards."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mecha.errors import INTERNAL_EXIT_CODE
from tests.reliability.commands import Outcome
from tests.reliability.robot import NAME, Hubs, copy_of, forget, hubs, published_digest, robot
from tests.service.conftest import Bench
from tests.store.example import environment

_POLL_S = 0.0003
_LONGEST_S = 120.0
STAGING = "project/models/.*.staging"
PARTIAL = "home/cache/partial/*"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command that is killed.

    Attributes:
        before: what the robot has: "nothing", "FP32" of the old version, "updated" from it to the new one, "garbage" in
            its cache besides FP32, or a "bundle" of the model in its project and nothing else.
        command: what runs.
        serves: the version that the Hub has while it runs.
        moments: (files that appear, seconds): the kill comes within so many seconds after one of them is there.
        may_be_gone: no model is as good as a whole one, afterwards.
        int8: the catalog asks for INT8.
        weight: how often it is chosen, against the others.
    """

    name: str
    before: str
    command: tuple[str, ...]
    moments: tuple[tuple[str, float], ...]
    serves: str = "old"
    may_be_gone: bool = False
    int8: bool = False
    weight: int = 1


PULL = ("models", "pull", NAME)
UPDATE = ("models", "update", NAME)
_VERIFY, _LIST = ("models", "verify", NAME), ("models", "list", "--json")
AFTERWARDS = (_LIST, _VERIFY, PULL, _VERIFY, _LIST)
SCENARIOS = (
    Scenario("download", "nothing", (*PULL, "--limit-rate", "600k"), ((PARTIAL, 0.4),), may_be_gone=True, weight=5),
    Scenario(
        "first publish",
        "nothing",
        PULL,
        (("home/cache/blobs/*", 0.25), (STAGING, 0.02), (f"project/models/{NAME}", 0.01)),
        may_be_gone=True,
        weight=4,
    ),
    Scenario(
        "publish over",
        "FP32",
        (*PULL, "--force"),
        ((PARTIAL, 0.1), (STAGING, 0.02), (f"{STAGING}/manifest.json", 0.005)),
        serves="new",
        weight=5,
    ),
    Scenario(
        "remove",
        "FP32",
        ("models", "remove", NAME, "-y"),
        (("", 0.3), ("project/models/.*.removed", 0.001)),
        may_be_gone=True,
        weight=2,
    ),
    Scenario(
        "update",
        "FP32",
        UPDATE,
        (("home/cache/blobs/*", 0.3), (STAGING, 0.02), (f"{STAGING}/manifest.json", 0.005), ("", 0.9)),
        serves="new",
        weight=4,
    ),
    Scenario("rollback", "updated", ("models", "rollback", NAME), (("", 0.6), (STAGING, 0.01)), weight=2),
    Scenario(
        "import",
        "bundle",
        ("models", "import", "bundle.tar"),
        (("", 0.8), ("home/cache/blobs/*", 0.1), (STAGING, 0.01)),
        may_be_gone=True,
        weight=2,
    ),
    Scenario("gc", "garbage", ("models", "gc"), (("", 0.4), ("home/cache/blobs/.*.removed", 0.02)), weight=2),
    Scenario(
        "quantize",
        "FP32",
        ("models", "quantize", NAME),
        (("home/cache/builds/.*.staging", 2.5), ("home/cache/builds/*/build.json", 0.05)),
        int8=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Kill:
    """What became of one kill.

    Attributes:
        hit: the command was still running.
        faults: sentences; empty when all was as it must be.
    """

    scenario: str
    moment: str
    hit: bool
    faults: tuple[str, ...]


class Killer:
    """Kills commands; each starts from a fresh copy of a robot that was prepared once."""

    def __init__(self, folder: Path, served: Hubs) -> None:
        self._folder, self._served = folder, served
        self._prepared: dict[tuple[str, bool], Bench] = {}
        self._copies = 0

    def kill(self, scenario: Scenario, chance: random.Random) -> Kill:
        self._copies += 1
        bench = copy_of(
            self._ready(scenario), self._folder / f"robot{self._copies}", self._served.endpoint(scenario.serves)
        )
        marker, window_s = chance.choice(scenario.moments)
        delay_s = chance.uniform(0.0, window_s)
        running = bench.start(*scenario.command)
        _wait_for(marker, bench.root.parent, running)
        time.sleep(delay_s)
        running.kill()
        running.communicate()
        wrong = self._faults(scenario, bench)
        if not wrong:
            forget(bench)
        return Kill(scenario.name, f"{delay_s * 1e3:.1f} ms after {marker or 'start'}", running.returncode < 0, wrong)

    def _ready(self, scenario: Scenario) -> Bench:
        key = (scenario.before, scenario.int8)
        if key not in self._prepared:
            bench = robot(
                self._folder / f"{scenario.before} {scenario.int8}", self._served.endpoint("old"), int8=scenario.int8
            )
            if scenario.before != "nothing":
                done = bench.command(*PULL, "--no-quantize")
                assert done.returncode == 0, done.stderr
            if scenario.before == "updated":
                bench.environ["HF_ENDPOINT"] = self._served.endpoint("new")
                done = bench.command(*UPDATE)
                assert done.returncode == 0, done.stderr
            if scenario.before == "garbage":
                litter(bench)
            if scenario.before == "bundle":
                for command in (("models", "export", NAME, "-o", "bundle.tar"), ("models", "remove", NAME, "-y")):
                    done = bench.command(*command)
                    assert done.returncode == 0, done.stderr
                shutil.rmtree(bench.home / "cache")
            self._prepared[key] = bench
        return self._prepared[key]

    def _faults(self, scenario: Scenario, bench: Bench) -> tuple[str, ...]:
        found = published_digest(bench)
        outcomes = commands(bench, *AFTERWARDS)
        return tuple(
            faults(
                found,
                outcomes,
                published_digest(bench),
                whole=frozenset(self._served.digests.values()),
                may_be_gone=scenario.may_be_gone,
            )
        )


def faults(
    found: str | None, outcomes: Sequence[Outcome], at_last: str | None, *, whole: frozenset[str], may_be_gone: bool
) -> Iterator[str]:
    """Say what is not as it must be after a command was interrupted.

    Args:
        found: digest of the model that was published then, None for none.
        outcomes: of AFTERWARDS.
        at_last: digest of the model that is published now.
        whole: the digests a model may have.
        may_be_gone: there need be no model.
    """
    listed, verified, pulled, again, listed_again = outcomes
    if found is None and not may_be_gone:
        yield "the model that was published is gone"
    if found is not None and found not in whole:
        yield f"a model that is neither version is there: {found}"
    state = _state(listed)
    if state not in ({"available"} if found is None else {"ready", "fp32-only"}):
        yield f"list says {state}: {listed.said}"
    if verified.code != (4 if found is None else 0):
        yield f"verify ends with {verified.code}: {verified.said}"
    if pulled.code != 0 or again.code != 0 or _state(listed_again) != "ready":
        yield f"the next pull does not recover: {pulled}, {again}, {listed_again}"
    if at_last not in whole:
        yield "the next pull publishes something else"
    for outcome in outcomes:
        if "Traceback" in outcome.said or outcome.code == INTERNAL_EXIT_CODE:
            yield outcome.said


def litter(bench: Bench, count: int = 40) -> None:
    """Put downloads into the cache that nothing uses, and that are old."""
    for number in range(count):
        content = bytes([number]) * 50_000
        blob = bench.home / "cache" / "blobs" / sha256(content).hexdigest()
        blob.write_bytes(content)
        os.utime(blob, (1e9, 1e9))


@contextmanager
def killer(folder: Path) -> Iterator[Killer]:
    """Give a killer whose Hubs run until the block ends."""
    with hubs(folder / "hubs") as served:
        yield Killer(folder, served)


def commands(bench: Bench, *lines: tuple[str, ...]) -> tuple[Outcome, ...]:
    """Run commands one after the other, in one new process, and return what each did."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.commands", *map(json.dumps, lines)],
        cwd=bench.root,
        env={**bench.environment, "PYTHONPATH": environment()["PYTHONPATH"]},
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(Outcome(**json.loads(line)) for line in done.stdout.splitlines())


def chosen(count: int, chance: random.Random) -> list[Scenario]:
    """Return so many scenarios, each about as often as its weight says, in an order of chance."""
    deck = [scenario for scenario in SCENARIOS for _ in range(scenario.weight)]
    many = [deck[(2 * number + 1) * len(deck) // (2 * count)] for number in range(count)]
    chance.shuffle(many)
    return many


def _wait_for(marker: str, folder: Path, running: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + _LONGEST_S
    while marker and running.poll() is None and not any(folder.glob(marker)):
        assert time.monotonic() < deadline, f"{marker} does not appear"
        time.sleep(_POLL_S)


def _state(listed: Outcome) -> str:
    if listed.code != 0:
        return f"exit code {listed.code}"
    models = json.loads(listed.said)["models"]
    return str(next(model["state"] for model in models if model["name"] == NAME))
