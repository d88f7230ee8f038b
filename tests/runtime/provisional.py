"""arena-n, published with an INT8 that was built on scenes and agrees badly or well with FP32."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mecha.arena.camera import ArenaCamera
from mecha.detect.locate import locate
from mecha.quantize.options import StaticOptions
from mecha.quantize.static import build_static
from mecha.store.blobs import packaged_models
from mecha.store.digests import folder_records
from mecha.store.manifest import CalibrationRecord, GateRecord, Int8Record, Manifest, OriginRecord
from mecha.store.models import ModelStore
from mecha.store.published import INT8_FILE, LABELS_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.spec import serialised

FP32 = packaged_models()[0]
NAME = "arena-n"
# Its entry as the package has it, but that a build searches nothing.
CATALOG = """
[[models]]
name = "arena-n"
repo = "mecha/arena-n"
filename = "arena-n.onnx"

[models.quantize]
method = "static_int8"
range = "mean_minmax"
equalization = false
rounding = false
bias_correction = false
mixed_precision = false
"""
SCENES = CalibrationRecord(description="32 built-in scenes", frames=32, digest="0" * 64, provisional=True)


@dataclass(frozen=True)
class _Darkness:
    """What a camera sees at night."""

    description: str = "8 dark frames"
    provisional: bool = True
    digest: str = "0" * 64

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        camera = ArenaCamera(width=320, height=240)
        for index in range(8):
            yield (camera.scene(index * 20).frame_bgr * 0.03).astype(np.uint8)


def poor_int8(file: Path) -> Path:
    """Write an INT8 of arena-n that was calibrated in the dark."""
    options = StaticOptions(
        range="mean_minmax", equalization=False, rounding=False, bias_correction=False, mixed_precision=False
    )
    spec = locate(FP32, cwd=file.parent, environ=os.environ).spec
    build_static(FP32, file, _Darkness(), spec, options=options, threads=1)
    return file


def publish_provisional(
    root: Path, int8: Path, *, calibration: CalibrationRecord = SCENES, method: str = "static_int8"
) -> PublishedModel:
    """Publish arena-n in a project, with an INT8 file."""
    store = ModelStore(root / "models")
    spec = locate(FP32, cwd=root, environ=os.environ).spec.model_copy(update={"name": NAME})
    with store.staging(NAME) as staged:
        (staged / SPEC_FILE).write_bytes(serialised(spec))
        (staged / MODEL_FILE).write_bytes(FP32.read_bytes())
        (staged / INT8_FILE).write_bytes(int8.read_bytes())
        (staged / LABELS_FILE).write_text("\n".join(spec.classes) + "\n")
        manifest = Manifest(
            name=NAME,
            created="2026-01-01T00:00:00+00:00",
            origin=OriginRecord(repo="a/b", filename="m.onnx", revision="1", requested_revision="main", etag="e"),
            files=folder_records(staged),
            int8=Int8Record(
                state="built",
                method=method,
                calibration=calibration,
                # A busy machine may find any build slow, and a slow one never takes the place of a fast one.
                gate=GateRecord(verdict="slower", reason="measured", speedup=1.0),
            ),
        )
        return store.publish(NAME, staged, manifest)
