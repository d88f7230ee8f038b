"""A Hub on loopback, a project, and a model that was pulled once for all tests that only look at it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest
from tests.service.upstream import Upstream

from mecha.hub.mirror import RunningMirror, running_mirror
from mecha.store.blobs import packaged_models

CATALOG = """
[[models]]
name = "arena"
task = "object-detection"
repo = "mecha/arena-n"
filename = "arena-n.onnx"
preprocessing_preset = "yolo"
license = "Apache-2.0"

[models.quantize]
enabled = true
method = "{method}"
{options}
"""
# A build that searches nothing takes a third of the time, and is as right for all that is no question of accuracy.
PLAIN = """\
range = "mean_minmax"
equalization = false
rounding = false
bias_correction = false
mixed_precision = false
"""
NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Bench:
    """A project whose commands are run as real processes against a real Hub on loopback."""

    root: Path
    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    patience_s: float = 240.0

    def write_catalog(self, text: str) -> None:
        (self.root / "model_catalog.toml").write_text(text)

    def command(self, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "mecha", *arguments],
            cwd=self.root,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            timeout=self.patience_s,
            check=False,
        )

    def start(self, *arguments: str, **extra: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "mecha", *arguments],
            cwd=self.root,
            env={**self.environment, **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def environment(self) -> Mapping[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MECHA_", "XDG_"))}
        return {**kept, "HOME": str(self.home), "MECHA_CACHE_DIR": str(self.home / "cache"), **self.environ}


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the mirror serves: the embedded model, and files that are no model."""
    folder = tmp_path_factory.mktemp("hub")
    repo = folder / "mecha" / "arena-n"
    repo.mkdir(parents=True)
    # One more metadata entry makes it another file than the one in the package, which would need no download.
    model = onnx.load(packaged_models()[0])
    model.metadata_props.add(key="served_for", value="tests")
    onnx.save(model, repo / "arena-n.onnx")
    (repo / "page.onnx").write_text("<!doctype html><title>Log in</title>")
    (repo / "noise.onnx").write_bytes(bytes(range(256)) * 40)
    (repo / "three.txt").write_text("one\ntwo\nthree\n")
    return folder


@pytest.fixture(scope="session")
def served(hub_folder: Path) -> bytes:
    """The bytes of the model on the server."""
    return (hub_folder / "mecha/arena-n/arena-n.onnx").read_bytes()


@pytest.fixture(scope="session")
def hub(hub_folder: Path) -> Iterator[RunningMirror]:
    with running_mirror(hub_folder) as running:
        yield running


def make_bench(root: Path, home: Path, endpoint: str, *, method: str = "static_int8", options: str = PLAIN) -> Bench:
    root.mkdir(parents=True)
    home.mkdir(parents=True)
    bench = Bench(root, home, {"HF_ENDPOINT": endpoint})
    bench.write_catalog(CATALOG.format(method=method, options=options))
    return bench


@pytest.fixture
def bench(tmp_path: Path, hub: RunningMirror) -> Bench:
    return make_bench(tmp_path / "project", tmp_path / "home", hub.endpoint)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "hub")


@pytest.fixture
def mirror(upstream: Upstream) -> Iterator[RunningMirror]:
    """A Hub whose files change: what a test publishes into `upstream`."""
    upstream.publish("1")
    with running_mirror(upstream.folder) as running:
        yield running


@pytest.fixture(scope="session")
def pulled_once(tmp_path_factory: pytest.TempPathFactory, hub_folder: Path) -> Bench:
    """A project in which the model was pulled from a server that has stopped since."""
    folder = tmp_path_factory.mktemp("pulled")
    with running_mirror(hub_folder) as running:
        bench = make_bench(folder / "project", folder / "home", running.endpoint)
        done = bench.command("models", "pull", "arena")
    assert done.returncode == 0, done.stderr
    return bench


@pytest.fixture
def pulled(pulled_once: Bench, tmp_path: Path) -> Bench:
    """The same as a copy that a test may spoil; its server is gone."""
    shutil.copytree(pulled_once.root, tmp_path / "project")
    shutil.copytree(pulled_once.home, tmp_path / "home")
    return Bench(tmp_path / "project", tmp_path / "home", dict(pulled_once.environ))


@pytest.fixture(scope="session")
def bundle(pulled_once: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with its INT8, exported from a device whose Hub is gone."""
    file = tmp_path_factory.mktemp("stick") / "arena.tar"
    done = pulled_once.command("models", "export", "arena", "-o", str(file))
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture
def robot(tmp_path: Path) -> Bench:
    """Another device: a project that names no model, an empty cache, and no network."""
    return fresh(tmp_path / "robot")


def fresh(folder: Path) -> Bench:
    (folder / "project").mkdir(parents=True)
    (folder / "home").mkdir()
    bench = Bench(folder / "project", folder / "home", dict(NOWHERE))
    bench.write_catalog("# the models of this robot\n")
    return bench


Waiting = Callable[[Callable[[], bool], float], None]
