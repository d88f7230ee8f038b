"""A published model with as little in it as there can be, for the tests of the store."""

import hashlib
import os
from pathlib import Path

import mecha
from mecha.store.digests import folder_records
from mecha.store.manifest import Int8Record, Manifest, OriginRecord
from mecha.store.models import ModelStore
from mecha.store.published import INT8_FILE, LABELS_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.spec import InputSpec, ModelSpec, SourceSpec, serialised


def content(version: str, size_bytes: int = 1000) -> bytes:
    """Return bytes that belong to one version only, whatever part is looked at."""
    block = hashlib.sha256(version.encode()).digest()
    return (block * (size_bytes // len(block) + 1))[:size_bytes]


def fill(staged: Path, name: str, version: str, *, size_bytes: int = 1000, int8: bool = False) -> Manifest:
    """Write the files of a version into a folder and return their manifest."""
    spec = ModelSpec(
        name=name,
        task="object-detection",
        family="yolov8",
        input=InputSpec(name="images", height=640, width=640),
        preprocessing="yolo",
        classes=("cone", "ball"),
        source=SourceSpec(repo="a/b", filename="m.onnx", revision=version),
    )
    (staged / SPEC_FILE).write_bytes(serialised(spec))
    (staged / MODEL_FILE).write_bytes(content(version, size_bytes))
    (staged / LABELS_FILE).write_text(f"cone\n{version}\n")
    if int8:
        (staged / INT8_FILE).write_bytes(content(f"{version} INT8"))
    return Manifest(
        name=name,
        created="2026-01-01T00:00:00+00:00",
        origin=OriginRecord(repo="a/b", filename="m.onnx", revision=version, requested_revision="main", etag="e"),
        files=folder_records(staged),
        int8=Int8Record(state="built" if int8 else "pending"),
    )


def publish(
    store: ModelStore, name: str, version: str, *, size_bytes: int = 1000, int8: bool = False
) -> PublishedModel:
    """Publish a version of a model."""
    with store.staging(name) as staged:
        return store.publish(name, staged, fill(staged, name, version, size_bytes=size_bytes, int8=int8))


def environment() -> dict[str, str]:
    """Return the environment of a program that imports mecha and these tests."""
    source, root = Path(mecha.__file__).parents[1], Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(root)])}
