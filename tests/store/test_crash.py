"""Publishing is killed at any moment, and readers see a whole model all the time."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from mecha.store.exchange import no_exchange
from mecha.store.models import ModelStore
from mecha.store.process import ProcessId
from mecha.store.published import LABELS_FILE, MANIFEST_FILE, MODEL_FILE, PublishedModel
from tests.store.example import content, environment, publish
from tests.store.publisher import SIZE_BYTES, VERSIONS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the publisher forks")

KILLS = 25
DIGESTS = {sha256(content(version, SIZE_BYTES)).hexdigest(): version for version in VERSIONS}


@contextmanager
def publishers(models_dir: Path, how: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.publisher", str(models_dir), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def start_publisher(publisher: "subprocess.Popen[str]") -> ProcessId:
    assert publisher.stdin is not None
    assert publisher.stdout is not None
    publisher.stdin.write("\n")
    publisher.stdin.flush()
    pid = int(publisher.stdout.readline())
    stat = Path(f"/proc/{pid}/stat")
    started = int(stat.read_text().rpartition(")")[2].split()[19]) if stat.exists() else 0
    return ProcessId(pid, started)


def read_whole(store: ModelStore) -> str:
    """Read the model as a program does, and return which version it was."""
    model = store.published("m")
    assert model is not None, "the model is absent"
    digest = sha256(store.read("m", MODEL_FILE)).hexdigest()
    assert digest in DIGESTS, "the model is torn"
    return DIGESTS[digest]


def wait_until_gone(process: ProcessId) -> None:
    deadline = time.monotonic() + 30
    while process.alive():
        assert time.monotonic() < deadline, "the killed publisher is still there"
        time.sleep(0.001)


@pytest.mark.skipif(sys.platform != "linux", reason="pids are looked up in /proc")
@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_a_reader_never_finds_the_model_absent_or_torn_while_its_publisher_is_killed_again_and_again(
    tmp_path: Path, how: str
) -> None:
    moments = random.Random(7)
    store = ModelStore(tmp_path / "models")
    seen: set[str] = set()
    reads = 0
    with publishers(store.models_dir, how) as publisher:
        kills = 0
        # On a busy machine some are killed before they have published anything.
        while kills < KILLS or (seen != set(VERSIONS) and kills < 10 * KILLS):
            kills += 1
            victim = start_publisher(publisher)
            kill_at = time.monotonic() + moments.uniform(0.0, 0.15)
            while time.monotonic() < kill_at:
                seen.add(read_whole(store))
                reads += 1
            os.kill(victim.pid, signal.SIGKILL)
            wait_until_gone(victim)
            assert store.verify("m") == ()
            model = store.published("m")
            assert isinstance(model, PublishedModel)
            assert (model.path / LABELS_FILE).read_text() == f"cone\n{model.spec.source.revision}\n"
            assert model.manifest.origin.revision == read_whole(store) == model.spec.source.revision
    assert seen == set(VERSIONS)
    assert reads > KILLS

    publish(store, "m", "a")
    assert sorted(entry.name for entry in store.models_dir.iterdir()) == ["m"], "leftovers of the killed were not swept"


def test_a_crash_between_the_two_renames_leaves_the_old_model_in_use(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, swap=no_exchange)
    publish(store, "m", "old")
    (tmp_path / "m").rename(tmp_path / ".m.previous")

    old = store.published("m")
    assert old is not None
    assert (old.path, old.spec.source.revision) == (tmp_path / ".m.previous", "old")
    assert [model.name for model in store.all()] == ["m"]
    assert store.verify("m") == ()

    assert publish(store, "m", "new").path == tmp_path / "m"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_crash_after_the_two_renames_leaves_the_new_model_in_use(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, swap=no_exchange)
    publish(store, "m", "old")
    (tmp_path / "m").rename(tmp_path / "kept")
    publish(store, "m", "new")
    (tmp_path / "kept").rename(tmp_path / ".m.previous")

    new = store.published("m")
    assert new is not None
    assert new.spec.source.revision == "new"
    store.remove("m")
    assert store.published("m") is None
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_counts_by_its_previous_name_can_be_removed(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    publish(store, "m", "old")
    (tmp_path / "m").rename(tmp_path / ".m.previous")
    store.remove("m")
    assert store.published("m") is None
    assert list(tmp_path.iterdir()) == []


def test_without_its_manifest_a_folder_is_no_model(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    publish(store, "m", "a")
    (tmp_path / "m" / MANIFEST_FILE).unlink()
    assert store.published("m") is None
    assert store.all() == ()
