"""Putting a model together from the cache, and in the place of what was published before."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mecha.graph.cpu import cpu_features
from mecha.project import Project
from mecha.service.build_report import REPORT_FILES
from mecha.service.tools import tool_versions
from mecha.service.tuning import remembered
from mecha.store.blobs import BlobCache
from mecha.store.digests import file_record
from mecha.store.manifest import Int8Record, Manifest, OriginRecord
from mecha.store.models import ModelStore
from mecha.store.pins import LockedFile
from mecha.store.published import INT8_FILE, LABELS_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.spec import Int8Summary, ModelSpec, serialised
from mecha.store.staged import write_staged

RECORD_FILE = "record.json"
"""Beside each build in the cache: what the manifest says of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pull works."""

    project: Project
    store: ModelStore
    cache: BlobCache


def publish(
    place: Place,
    spec: ModelSpec,
    fp32_sha256: str,
    origin: OriginRecord,
    record: Int8Record,
    *,
    pins: tuple[LockedFile, ...] = (),
    about_to: Callable[[Manifest], None] | None = None,
) -> PublishedModel:
    """Publish FP32 and, where the record says that it was built, the INT8 of its key with its report, from the cache.

    Args:
        pins: what mecha.lock says of the files it was made from; by default what is noted of the same FP32 already.
        about_to: told of the manifest when everything is ready for the publication.

    Raises:
        DiskError: what was published before still is.
    """
    with place.store.staging(spec.name) as staged:
        place.cache.link(fp32_sha256, staged / MODEL_FILE)
        place.cache.called("download", fp32_sha256, spec.name)
        if record.state == "built":
            place.cache.link_build(record.key, INT8_FILE, staged / INT8_FILE)
            place.cache.called("build", record.key, f"INT8 of {spec.name}")
            for name in REPORT_FILES:
                if (place.cache.build_dir(record.key) / name).is_file():  # builds of earlier versions have none
                    place.cache.link_build(record.key, name, staged / name)
        write_staged(staged / LABELS_FILE, "".join(f"{label}\n" for label in spec.classes).encode())
        spec = spec.model_copy(update={"int8": _summary(record)})
        write_staged(staged / SPEC_FILE, serialised(spec))
        build = place.cache.build_dir(record.key) if record.key else None
        published = place.store.published(spec.name)
        tuned = remembered(published, fp32_sha256, build)
        same = published is not None and published.manifest.files[MODEL_FILE].sha256 == fp32_sha256
        pins = pins or (published.manifest.pins if published is not None and same else ())
        manifest = _manifest(spec, origin, record, staged).model_copy(update={"tuned": tuned, "pins": pins})
        if about_to is not None:
            about_to(manifest)
        return place.store.publish(spec.name, staged, manifest)


def _manifest(spec: ModelSpec, origin: OriginRecord, record: Int8Record, staged: Path) -> Manifest:
    return Manifest(
        schema=1,
        name=spec.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=origin,
        licence=spec.licence,
        files={path.name: file_record(path) for path in staged.iterdir()},
        int8=record,
        tools=tool_versions(),
        device={"cpu": cpu_features().key()},
    )


def _summary(record: Int8Record) -> Int8Summary | None:
    if record.state == "published":
        return Int8Summary(method=record.method)
    if record.state != "built" or record.gate is None:
        return None
    return Int8Summary(
        method=record.method,
        verdict=record.gate.verdict,
        speedup=record.gate.speedup,
        agreement=record.gate.agreement.agreement if record.gate.agreement else None,
        provisional=bool(record.calibration and record.calibration.provisional),
    )
