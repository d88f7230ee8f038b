"""Power cuts, replayed: a command is recorded once, and what the disk may hold after each of its steps is read again.

python -m tests.reliability.power [--states 100000] [--seed 1] [--only NAME]
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.commands import Outcome
from tests.reliability.disk import KINDS, Content, Recording, after_power_cut
from tests.reliability.moments import AFTERWARDS, PULL, UPDATE, faults, litter
from tests.reliability.robot import NAME, Hubs, hubs, published_digest, robot
from tests.reliability.trace import recorded
from tests.service.conftest import Bench
from tests.store.example import environment

SIZE_BYTES = 30_000
_CHANCES = {"torn": 2, "by folder": 4}


@dataclass(frozen=True, slots=True)
class Story:
    """A command that is recorded.

    Attributes:
        first: what ran before and is on the disk whole: the version that the Hub had, and the command.
        command: what is recorded.
        serves: the version that the Hub has while it runs.
        after: the version that is there once it has ended, None for no model.
        is_there: a model is there before.
        quick: the suite tells it too.
        prepare: changes the robot after `first`.
    """

    name: str
    first: tuple[tuple[str, tuple[str, ...]], ...]
    command: tuple[str, ...]
    serves: str
    after: str | None
    is_there: bool = True
    quick: bool = True
    prepare: Callable[[Bench], None] | None = None


def _without_cache(bench: Bench) -> None:
    shutil.rmtree(bench.home / "cache")


_PULLED = ("old", PULL)
_BUNDLED = (_PULLED, ("old", ("models", "export", NAME, "-o", "bundle.tar")), ("old", ("models", "remove", NAME, "-y")))
STORIES = (
    Story("first pull", (), PULL, "old", "old", is_there=False),
    Story("pull of another version", (_PULLED,), (*PULL, "--force"), "new", "new"),
    Story("update", (_PULLED,), UPDATE, "new", "new"),
    Story("rollback", (_PULLED, ("new", UPDATE)), ("models", "rollback", NAME), "new", "old", quick=False),
    Story("remove", (_PULLED,), ("models", "remove", NAME, "-y"), "old", None),
    Story(
        "import",
        _BUNDLED,
        ("models", "import", "bundle.tar"),
        "old",
        "old",
        is_there=False,
        quick=False,
        prepare=_without_cache,
    ),
    Story("gc", (_PULLED,), ("models", "gc"), "old", "old", quick=False, prepare=lambda bench: litter(bench, 4)),
    Story("INT8 build", (_PULLED,), ("models", "quantize", NAME), "old", "old", quick=False),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one story.

    Attributes:
        states: different states of the disk that were read.
        wrong: (after which step, what of the unsynced was there, what is not as it must be).
    """

    name: str
    steps: int
    states: int
    wrong: tuple[tuple[int, str, str], ...]


class Reader:
    """A process that runs commands in one folder after the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, folder: Path) -> tuple[Outcome, ...]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), AFTERWARDS]) + "\n")
        self._process.stdin.flush()
        return tuple(Outcome(**outcome) for outcome in json.loads(self._process.stdout.readline()))


@contextmanager
def reader(bench: Bench) -> Iterator[Reader]:
    """Give a reader with the environment of a robot."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.commands"],
        env={**bench.environment, "PYTHONPATH": environment()["PYTHONPATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Reader(process)
        finally:
            process.kill()


def told(story: Story, served: Hubs, folder: Path, *, states: int, chance: random.Random) -> Result:
    """Record a story, and read what power cuts may leave of it.

    Args:
        states: at most so many of them, chosen by chance, and all those after the last step.
    """
    bench = robot(folder / "recorded", served.endpoint("old"))
    for serves, command in story.first:
        bench.environ["HF_ENDPOINT"] = served.endpoint(serves)
        done = bench.command(*command)
        assert done.returncode == 0, done.stderr
    if story.prepare is not None:
        story.prepare(bench)
    # onnxruntime keeps a file of its own there.
    recording = Recording(bench.root.parent, without=bench.home / ".cache")
    bench.environ["HF_ENDPOINT"] = served.endpoint(story.serves)
    calls, code = recorded(
        [sys.executable, "-m", "mecha", *story.command],
        folder=bench.root,
        environment=bench.environment,
        output=folder / "calls",
    )
    assert code == 0, f"{story.name}: exit code {code}"
    recording.play(calls)
    _require_same(recording, bench)
    cuts = list(_cuts(recording, chance))
    ended = [cut for cut in cuts if cut[0] == len(recording.steps)]
    cuts = cuts[: -len(ended)]
    cuts = [*chance.sample(cuts, min(states, len(cuts))), *ended]
    wrong: list[tuple[int, str, str]] = []
    with reader(bench) as reading:
        for number, (step, kind, content) in enumerate(cuts):
            copy = Bench(folder / f"cut{number}" / "project", folder / f"cut{number}" / "home")
            _lay_out(content, copy.root.parent)
            found = published_digest(copy)
            is_over = step == len(recording.steps)
            said = faults(
                found,
                reading.run(copy.root.parent),
                published_digest(copy),
                whole=frozenset(served.digests.values()),
                may_be_gone=story.after is None or not (story.is_there or is_over),
            )
            if is_over and found != (served.digests[story.after] if story.after else None):
                wrong.append((step, kind, "the command had ended, and what it did is lost"))
            wrong.extend((step, kind, sentence) for sentence in said)
            shutil.rmtree(copy.root.parent)
    return Result(story.name, len(recording.steps), len(cuts), tuple(wrong))


def _cuts(recording: Recording, chance: random.Random) -> Iterator[tuple[int, str, Content]]:
    """Give the different states of the disk, those after the last step at the end."""
    seen: set[tuple[bool, frozenset[tuple[str, bytes | None]]]] = set()
    for step in range(len(recording.steps) + 1):
        for kind in KINDS:
            for _ in range(_CHANCES.get(kind, 1)):
                content = after_power_cut(recording, step, kind, chance)
                key = (step == len(recording.steps), frozenset(content.items()))
                if key not in seen:
                    seen.add(key)
                    yield step, kind, content


def _require_same(recording: Recording, bench: Bench) -> None:
    """Compare what was recorded, all of it on the disk, with the folder itself: nothing was overlooked."""
    root, cache = bench.root.parent, bench.home / ".cache"
    there = {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if not path.is_relative_to(cache)
    }
    content = after_power_cut(recording, len(recording.steps), "all", random.Random(0))
    assert content == there, sorted(content.keys() ^ there.keys())


def _lay_out(content: Content, folder: Path) -> None:
    folder.mkdir()
    (folder / "home").mkdir(exist_ok=True)
    for path, data in content.items():
        target = folder / path
        if data is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def main() -> int:
    """Tell every story and print a table; 1 when something was not as it must be."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--states", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--only", choices=[story.name for story in STORIES])
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, hubs(Path(folder) / "hubs", size_bytes=SIZE_BYTES) as served:
        for number, story in enumerate(STORIES):
            if options.only in (None, story.name):
                place = Path(folder) / str(number)
                place.mkdir()
                results.append(told(story, served, place, states=options.states, chance=chance))
                for step, kind, sentence in results[-1].wrong:
                    print(f"{story.name}, after step {step} ({kind}): {sentence}", flush=True)
    print("| command | steps | states of the disk | not as it must be |\n|---|--:|--:|--:|")
    for result in results:
        print(f"| {result.name} | {result.steps} | {result.states} | {len(result.wrong)} |")
    return int(any(result.wrong for result in results))


if __name__ == "__main__":
    sys.exit(main())
