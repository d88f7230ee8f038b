"""Projects that a daemon keeps in tests: a small model from a Hub on loopback, and nodes that need next to nothing."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import onnx

from mecha.daemon.daemon import Daemon
from mecha.daemon.retries import Patience
from mecha.daemon.state import ModelStatus, NodeStatus
from mecha.project import find_project
from mecha.store.blobs import packaged_models
from tests.runtime.projects import configure, make_project
from tests.runtime.waiting import wait_for

PATIENCE_S = 60.0
QUICK = Patience(first_s=0.2, longest_s=0.5, tries=3, build_first_s=0.2, node_first_s=0.2, node_longest_s=0.5)

CATALOG = """
[[models]]
name = "arena"
task = "object-detection"
repo = "mecha/arena-n"
filename = "arena-n.onnx"
preprocessing_preset = "yolo"
license = "Apache-2.0"

[models.quantize]
enabled = false
"""
SETTINGS = """
[hub]
tries = 1
connect_timeout_s = 2
answer_timeout_s = 5
"""
USER = """
    from mecha.runtime.node import Node, NodeConfig

    class UserConfig(NodeConfig):
        model: str = ""

    class User(Node[UserConfig]):
        config_model = UserConfig

        def setup(self) -> None:
            size = (self.root / "models" / self.config.model / "model.onnx").stat().st_size
            self.log.info("%d bytes", size)

        def step(self, message: None) -> None:
            self.wait(0.05)
"""
"""A node that needs a model, and does nothing with it."""


def hub_folder(folder: Path) -> Path:
    """Lay out what a mirror serves."""
    repo = folder / "mecha" / "arena-n"
    repo.mkdir(parents=True)
    # One more metadata entry makes it another file than the one in the package, which would need no download.
    model = onnx.load(packaged_models()[0])
    model.metadata_props.add(key="served_for", value="the daemon")
    onnx.save(model, repo / "arena-n.onnx")
    return folder


def kept_project(root: Path, **nodes: str) -> Path:
    """Lay out a project whose node `user` runs the model `arena`."""
    make_project(root, **nodes)
    (root / "model_catalog.toml").write_text(CATALOG)
    settings = root / "configs/common/mecha.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(SETTINGS)
    if "user" in nodes:
        configure(root, "user", model="arena")
    return root


class Kept:
    """A daemon in this process; a context manager that starts and stops it."""

    def __init__(self, root: Path, environ: Mapping[str, str], patience: Patience = QUICK) -> None:
        self.root = root
        self.lines: list[str] = []
        self.daemon = Daemon(find_project(root, environ), environ, on_line=self.lines.append, patience=patience)

    def __enter__(self) -> Self:
        self.daemon.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.daemon.stop()

    def model(self, name: str = "arena") -> ModelStatus:
        return self.daemon.state.model(name) or ModelStatus(name)

    def node(self, name: str) -> NodeStatus:
        return self.daemon.state.node(name) or NodeStatus(name, "unknown")

    def wait_until(self, condition: Callable[[], bool], what: str = "") -> None:
        try:
            wait_for(condition, timeout_s=PATIENCE_S, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.daemon.status()}\n" + "\n".join(self.lines[-30:])) from error

    def wait_until_ready(self) -> None:
        self.wait_until(lambda: self.daemon.ready.ok, "the daemon is ready")

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


def environ_with(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with a cache and a run-time folder of its own."""
    own = {"MECHA_CACHE_DIR": str(home / "cache"), "XDG_RUNTIME_DIR": str(home / "run")}
    (home / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
    return {**os.environ, **own, **more}
