"""Updates that are killed at any moment, and at the steps around their publication."""

import signal
import time
from pathlib import Path

import pytest
from tests.service.conftest import Bench
from tests.service.updating import following, locked, published, published_by_a_pull, ran, told
from tests.service.upstream import Upstream

from mecha.hub.mirror import RunningMirror


@pytest.fixture
def bench(tmp_path: Path, mirror: RunningMirror) -> Bench:
    return following(tmp_path, mirror)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_killed_at_any_moment_of_an_update_the_old_or_the_new_version_counts(bench: Bench, upstream: Upstream) -> None:
    known = {published_by_a_pull(bench)}
    began = time.monotonic()
    known.add(upstream.publish("0"))
    ran(bench, "update", "arena")
    lasts_s = time.monotonic() - began
    for number in range(4):
        known.add(upstream.publish(f"{number + 2}"))
        running = bench.start("models", "update", "arena")
        time.sleep(lasts_s * (0.4 + number / 7))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert [row["state"] for row in told(bench, "list")["models"] if row["name"] == "arena"] == ["ready"]
        ran(bench, "verify", "arena")
        told(bench, "pull", "arena", "--offline")
        assert published(bench) in known
        assert locked(bench)["arena-n.onnx"]["sha256"] == published(bench)
        assert not (bench.root / "models/.arena.switch").exists()
    newest = upstream.publish("last")
    ran(bench, "update", "arena")
    assert published(bench) == newest
    ran(bench, "rollback", "arena")
    assert published(bench) in known - {newest}


@pytest.mark.parametrize("moment", ["before it is published", "after it is published", "before it is kept"])
def test_an_update_that_dies_next_to_its_publication_is_undone_or_carried_out(
    bench: Bench, upstream: Upstream, tmp_path: Path, moment: str
) -> None:
    first = published_by_a_pull(bench)
    second = upstream.publish("2")
    _die(tmp_path / "dying", moment)
    running = bench.start("models", "update", "arena", PYTHONPATH=str(tmp_path / "dying"))
    said, _ = running.communicate(timeout=120)
    assert running.returncode == -signal.SIGKILL, said
    assert (bench.root / "models/.arena.switch").is_dir()
    expected = first if moment == "before it is published" else second
    assert published(bench) == expected
    ran(bench, "verify", "arena")
    told(bench, "pull", "arena", "--offline")
    assert (published(bench), locked(bench)["arena-n.onnx"]["sha256"]) == (expected, expected)
    if expected == second:
        ran(bench, "rollback", "arena")
        assert published(bench) == first
    else:
        ran(bench, "rollback", "arena", code=4)


def _die(folder: Path, moment: str) -> None:
    """Let Python end itself as by a loss of power at one step of the publication."""
    step = {
        "before it is published": "store.models:ModelStore.publish",
        "after it is published": "store.kept:KeptModels.settle:after publish",
        "before it is kept": "store.lockfile:LockFile.put_all:after",
    }[moment]
    module, function, *when = step.split(":")
    owner, method = function.split(".")
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"""
import importlib.util, os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != 'mecha.{module}':
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            owner = getattr(module, {owner!r})
            method = getattr(owner, {method!r})
            def dying(self, *arguments, **keys):
                switching = (__import__('pathlib').Path('models') / '.arena.switch').is_dir()
                if switching:
                    if {when!r} == ['after']:
                        method(self, *arguments, **keys)
                    os.kill(os.getpid(), signal.SIGKILL)
                return method(self, *arguments, **keys)
            setattr(owner, {method!r}, dying)
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Finder())
""")
