"""A project whose daemon runs as it does on a device, answers on loopback, and pulls from a mirror there."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import onnx

from mecha.hub.mirror import running_mirror
from mecha.service.layout import lay_out
from mecha.store.blobs import packaged_models
from tests.runtime.waiting import wait_for

PATIENCE_S = 120.0
TOKEN = "a-token-for-the-tests-of-the-page"
_CACHE = os.environ.get("MECHA_PAGE_CACHE")
"""Keeps the INT8 build of arena-n from one run to the next."""
NO_MARKUP = "<img src=x onerror=document.title='run'> & cones"
CATALOG = f"""
[[models]]
name = "cones"
description = "{NO_MARKUP}"
task = "object-detection"
repo = "robots/cones"
filename = "cones.onnx"
license = "Apache-2.0"

[models.quantize]
enabled = true
method = "dynamic_int8"
escalate = false
"""


class Device:
    """One project and its daemon; the port stays the same when it is started again."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root = root
        self._environ = environ
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._token = root.parent / "token"
        self._token.touch(mode=0o600)
        self._token.write_text(TOKEN)
        self._log = root.parent / "daemon.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    @property
    def catalog(self) -> Path:
        return self.root / "model_catalog.toml"

    def config(self) -> dict[str, Any]:
        return dict(json.loads(self.config_file.read_text()))

    @property
    def config_file(self) -> Path:
        return self.root / "configs" / "common" / "nodes" / "object-detector" / "config.json"

    def start(self) -> None:
        command = [sys.executable, "-m", "mecha", "daemon", "run", "--token-file", str(self._token)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, "--listen", f"127.0.0.1:{self._port}"],
                cwd=self.root,
                env=self._environ,
                stdout=log,
                stderr=log,
            )
        answers = re.compile(r"answers at http://127\.0\.0\.1:(\d+)")
        wait_for(lambda: answers.search(self._log.read_text()) is not None, timeout_s=PATIENCE_S, what="the daemon")
        found = answers.search(self._log.read_text())
        assert found is not None
        self._port = int(found[1])

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(15) == 0, self._log.read_text()
            self._process = None


@contextmanager
def running_device(folder: Path) -> Iterator[Device]:
    """Run the nodes of a new project, with a catalog of the package and a model of the mirror."""
    hub, root = folder / "hub" / "robots" / "cones", folder / "robot"
    hub.mkdir(parents=True)
    _other_bytes(hub / "cones.onnx")
    lay_out(root)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MECHA_", "XDG_"))}
    with running_mirror(folder / "hub") as mirror:
        environ = {**kept, "HOME": str(folder), "MECHA_CACHE_DIR": _CACHE or str(folder / "cache")}
        device = Device(root, {**environ, "HF_ENDPOINT": mirror.endpoint})
        device.catalog.write_text(CATALOG)
        # Before the nodes take their share of the machine.
        subprocess.run([sys.executable, "-m", "mecha", "models", "pull", "arena-n"], cwd=root, env=environ, check=True)
        device.start()
        try:
            yield device
        finally:
            device.stop()


def changed(file: Path, change: Callable[[str], str]) -> None:
    """Save a file anew."""
    file.write_text(change(file.read_text()))


def _other_bytes(file: Path) -> None:
    """Write the packaged model with a digest that no cache has."""
    model = onnx.load(next(path for path in packaged_models() if path.name == "arena-n.onnx"))
    model.doc_string = uuid4().hex
    onnx.save(model, file)
