"""A robot with a project and a Hub that has published two versions of a model of 200 kB."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import onnx

from mecha.hub.mirror import RunningMirror, running_mirror
from tests.detect.blob_detector import blob_detector
from tests.service.conftest import PLAIN, Bench

NAME = "blobs"
VERSIONS = ("old", "new")
_CATALOG = """
[[models]]
name = "blobs"
task = "object-detection"
repo = "mecha/blobs"
filename = "blobs.onnx"
license = "Apache-2.0"

[models.quantize]
enabled = {enabled}
method = "static_int8"
escalate = false
"""


@dataclass(frozen=True, slots=True)
class Hubs:
    """Two mirrors that run, one for each version of the same file, and the digests of the versions."""

    mirrors: dict[str, RunningMirror]
    digests: dict[str, str]
    size_bytes: int

    def endpoint(self, version: str) -> str:
        return self.mirrors[version].endpoint


@contextmanager
def hubs(folder: Path, *, size_bytes: int = 200_000) -> Iterator[Hubs]:
    """Serve both versions until the block ends."""
    digests: dict[str, str] = {}
    content = b""
    for version in VERSIONS:
        repo = folder / version / "mecha" / NAME
        repo.mkdir(parents=True)
        model = onnx.load_from_string(blob_detector())
        model.metadata_props.add(key="version", value=version.ljust(size_bytes, version[0]))
        content = bytes(model.SerializeToString())
        (repo / f"{NAME}.onnx").write_bytes(content)
        (repo / "another.onnx").write_bytes(content + b"\x72\x04\x0a\x00\x12\x00")  # one more entry of metadata
        digests[version] = sha256(content).hexdigest()
    with running_mirror(folder / "old") as old, running_mirror(folder / "new") as new:
        yield Hubs({"old": old, "new": new}, digests, len(content))


def robot(folder: Path, endpoint: str, *, int8: bool = False) -> Bench:
    """Lay out an empty project in a new folder."""
    (folder / "project").mkdir(parents=True)
    (folder / "home").mkdir()
    bench = Bench(folder / "project", folder / "home", {"HF_ENDPOINT": endpoint})
    bench.write_catalog(_CATALOG.format(enabled=str(int8).lower()) + (PLAIN if int8 else ""))
    return bench


def copy_of(bench: Bench, folder: Path, endpoint: str) -> Bench:
    """Copy a robot with its cache; hard links stay links."""
    subprocess.run(["cp", "-a", str(bench.root.parent), str(folder)], check=True)
    return Bench(folder / "project", folder / "home", {"HF_ENDPOINT": endpoint})


def published_digest(bench: Bench) -> str | None:
    """Return the digest of the model that programs load, None when there is none."""
    file = bench.root / "models" / NAME / "model.onnx"
    return sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def forget(bench: Bench) -> None:
    """Remove a robot."""
    shutil.rmtree(bench.root.parent, ignore_errors=True)
