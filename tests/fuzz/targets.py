"""What reads files and requests of others, each as a function of bytes: it may raise MechaError and nothing else."""

import asyncio
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from mecha.catalog.catalog import load_catalog, parse_catalog
from mecha.catalog.signature import check_signature
from mecha.errors import MechaError
from mecha.graph.without_onnx import signature_at
from mecha.hub.mirror import create_mirror
from mecha.project import find_project
from mecha.quantize.dataset import dataset_photos
from mecha.quantize.listing import listed_photos
from mecha.runtime.bus import Sample
from mecha.runtime.messages import CameraStateMessage, ControlMessage, DetectionsMessage, FrameMessage, JsonMessage
from mecha.runtime.recording import Recording
from mecha.runtime.topics import PaceMeter, readable
from mecha.service.labels import names_in
from mecha.store.bundle import BundleReader
from mecha.store.lockfile import LockFile
from mecha.store.models import ModelStore
from mecha.validation import decoded
from tests.store.example import publish

Target = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"
SECRET = b"outside of what is served"
KEY = "RWSJbr3I6t3DG5RTyU6MQU8H6y2g/NfnRqNgm4geQglTgWwrHaC3FeWI"


@cache
def ground() -> Path:
    """A folder with all that the targets read besides the bytes."""
    root = Path(tempfile.mkdtemp(prefix="mecha-fuzz-"))
    (root / "secret.txt").write_bytes(SECRET)
    served = root / "served/owner/name"
    served.mkdir(parents=True)
    (served / "model.onnx").write_bytes(b"\x08\x08 a model")
    (served / "README.md").write_text("---\nlicense: mit\n---\n")
    (served / "out").symlink_to(root / "secret.txt")
    publish(ModelStore(root / "models"), "m", "a", int8=True)
    shutil.copytree(root / "models/m", root / "whole")
    (root / "configs/common").mkdir(parents=True)
    (root / "model_catalog.toml").write_text("")
    return root


def catalog(data: bytes) -> None:
    """A catalog, as a text and as the file of a project."""
    parse_catalog(decoded(data, where="c"), where="c")


def settings(data: bytes) -> None:
    """The settings of a project, and the catalog under them."""
    (ground() / "configs/common/mecha.toml").write_bytes(data)
    load_catalog(find_project(ground(), {}))


def signature(data: bytes) -> None:
    """The signature beside a catalog."""
    file = ground() / "signed.toml"
    file.with_name("signed.toml.minisig").write_bytes(data)
    check_signature(file, b"", KEY, where="c")


def _of_model(name: str, data: bytes) -> None:
    root = ground()
    shutil.copyfile(root / "whole/manifest.json", root / "models/m/manifest.json")
    shutil.copyfile(root / "whole/config.json", root / "models/m/config.json")
    (root / "models/m" / name).write_bytes(data)
    store = ModelStore(root / "models")
    assert len(store.all()) == 1
    store.find("m")
    store.verify("m")


def manifest(data: bytes) -> None:
    """The manifest of a published model."""
    _of_model("manifest.json", data)


def config(data: bytes) -> None:
    """config.json of a published model."""
    _of_model("config.json", data)


def lock(data: bytes) -> None:
    """mecha.lock."""
    (ground() / "mecha.lock").write_bytes(data)
    LockFile(ground() / "mecha.lock", ground() / "guard").entries()


def labels(data: bytes) -> None:
    """A file of class names."""
    file = ground() / "labels.txt"
    file.write_bytes(data)
    names = names_in(file, "labels.txt")
    assert all(name and "\n" not in name and "\x1b" not in name for name in names)


def dataset(data: bytes) -> None:
    """A dataset file of Ultralytics."""
    file = ground() / "data.yaml"
    file.write_bytes(data)
    dataset_photos(file, ground())


def listing(data: bytes) -> None:
    """A list of photos."""
    file = ground() / "list.txt"
    file.write_bytes(data)
    listed_photos(file, ground())


def onnx(data: bytes) -> None:
    """An ONNX file."""
    file = ground() / "model.onnx"
    file.write_bytes(data)
    signature_at(file, where="model.onnx")


def bundle(data: bytes) -> None:
    """A bundle, all of it taken out."""
    folder = ground() / "taken"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    reader = BundleReader(io.BytesIO(data), "b.tar")
    kept = reader.extract({content.sha256 for content in reader.index.files}, folder)
    assert all(file.parent == folder for file in kept.values())


def recording(data: bytes) -> None:
    """A recording, counted and played."""
    file = ground() / "a.rec"
    file.write_bytes(data)
    counted = Recording(file).contents()
    assert sum(len(message.sample.payload) for message in Recording(file)) <= len(data)
    assert counted.cut_off_bytes <= len(data)


def message(data: bytes) -> None:
    """A message of somebody else on an open bus: its header, and after a line feed its payload."""
    header, _, payload = data.partition(b"\n")
    sample = Sample("/camera/rgb", payload, header)
    json.dumps(readable(sample))
    PaceMeter().add(sample, 0.0)
    for kind in (FrameMessage, DetectionsMessage, ControlMessage, CameraStateMessage, JsonMessage):
        with suppress(MechaError):
            kind.decode(sample)


@cache
def _mirror() -> Any:
    return create_mirror(ground() / "served")


def mirror(data: bytes) -> None:
    """A path of a request to the mirror; the answer must be one, and hold nothing of what is not served."""
    path, _, query = data.partition(b"?")
    sent: list[dict[str, Any]] = []

    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        message = next(asked, None)
        if message is None:
            await asyncio.sleep(3600)  # the client stays until it has its answer
            return {"type": "http.disconnect"}
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    text = path.decode("utf-8", "replace")
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
             "path": f"/{text}", "raw_path": b"/" + path, "query_string": query, "root_path": "",
             "headers": [(b"range", query[:40])], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}  # fmt: skip
    asyncio.run(_mirror()(scope, receive, send))
    assert sent[0]["status"] < 500
    assert SECRET not in b"".join(message.get("body", b"") for message in sent)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        catalog, settings, signature, manifest, config, lock, labels, dataset, listing, onnx, bundle, mirror, recording,
        message,
    )
}  # fmt: skip


def run(target: Target, data: bytes) -> None:
    """Run a target; its refusal must be a sentence that can be written."""
    try:
        target(data)
    except MechaError as error:
        f"{error} {error.hint}".encode()


def seeds(name: str) -> list[bytes]:
    """Return the inputs that are kept for a target, by name."""
    return [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
