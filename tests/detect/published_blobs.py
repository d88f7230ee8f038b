"""The blob detector as a published model, with an INT8 build as the gate left it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.quantize.static import build_static
from mecha.store.digests import folder_records
from mecha.store.manifest import GateRecord, Int8Record, Manifest, OriginRecord, Verdict
from mecha.store.models import ModelStore
from mecha.store.published import INT8_FILE, LABELS_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.spec import ModelSpec, serialised
from tests.detect.blob_detector import GREEN, NAMES, RED, blob_detector, blob_spec, scene


class BlobFrames:
    """Calibration frames with squares on them."""

    description = "4 blob scenes"
    provisional = False
    digest = "0" * 64

    def __init__(self, size: int = 64) -> None:
        places = ((8, 8), (24, 40), (40, 16), (48, 48))
        self._frames = [scene((x, y, 8, RED), (y, x, 8, GREEN), size=(size, size)) for x, y in places]

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return iter(self._frames)


def int8_blobs() -> bytes:
    """Return a static INT8 build of the blob detector."""
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        fp32.write_bytes(blob_detector())
        build_static(fp32, int8, BlobFrames(), blob_spec(), threads=1)
        return int8.read_bytes()


def publish_blobs(
    store: ModelStore,
    *,
    int8: bytes | None = None,
    verdict: Verdict = "faster",
    spec: ModelSpec | None = None,
    model: bytes | None = None,
) -> PublishedModel:
    """Publish the blob detector as "blobs"."""
    spec = spec or blob_spec()
    with store.staging(spec.name) as staged:
        (staged / SPEC_FILE).write_bytes(serialised(spec))
        (staged / MODEL_FILE).write_bytes(model or blob_detector())
        (staged / LABELS_FILE).write_text("\n".join(NAMES) + "\n")
        if int8 is not None:
            (staged / INT8_FILE).write_bytes(int8)
        manifest = Manifest(
            name=spec.name,
            created="2026-01-01T00:00:00+00:00",
            origin=OriginRecord(repo="a/b", filename="m.onnx", revision="1", requested_revision="main", etag="e"),
            files=folder_records(staged),
            int8=Int8Record(
                state="built" if int8 is not None else "pending",
                gate=GateRecord(verdict=verdict, reason="measured") if int8 is not None else None,
            ),
        )
        return store.publish(spec.name, staged, manifest)
