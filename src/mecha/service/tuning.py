"""How a model runs fastest here: measured once, after its first build, and kept for as long as it holds.

It holds for one FP32 file, one device and one version of onnxruntime. Another INT8 of the same model has the same
layers, so it keeps what was found, also where `mecha models tune` found it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mecha.progress import Progress
from mecha.store.atomic import write_file
from mecha.store.manifest import Int8Record, TunedSession, TuneRecord
from mecha.store.published import INT8_FILE, MODEL_FILE, PublishedModel
from mecha.store.spec import serialised

if TYPE_CHECKING:
    from mecha.detect.detector import Precision
    from mecha.service.job import BuildJob

TUNED_FILE = "tuned.json"


def tune_build(job: "BuildJob", record: Int8Record, progress: Progress) -> None:
    """Measure what of a finished build is not known, and write all of it beside the build.

    Raises:
        UnsupportedModelError: onnxruntime cannot load or run a file.
        DiskError: it cannot be written.
    """
    from mecha.gate.tune import tune_briefly, tune_record

    if job.tuned is None:
        return
    files: dict[Precision, Path] = {"FP32": job.fp32}
    if record.state == "built":
        files["INT8"] = job.out_dir / INT8_FILE
    unknown = {precision: file for precision, file in files.items() if precision not in job.tuned}
    found = tune_briefly(unknown, job.spec, progress=progress) if unknown else {}
    if found or job.tuned:
        write_file(job.out_dir / TUNED_FILE, serialised(tune_record({**found, **job.tuned})))


def holding(published: PublishedModel | None, fp32_sha256: str) -> dict[str, TunedSession]:
    """Return what of a published model's tune holds on this device for an FP32 file, by precision."""
    tuned = _tune_of(published, fp32_sha256)
    return tuned.sessions if tuned is not None and holds_here(tuned) else {}


def holds_here(tuned: TuneRecord) -> bool:
    """Tell whether a tune was measured on this device with this onnxruntime."""
    from mecha.detect.session import tuned_device

    return (tuned.device, tuned.onnxruntime) == tuned_device()


def remembered(published: PublishedModel | None, fp32_sha256: str, build: Path | None) -> TuneRecord | None:
    """Return what the next manifest of a model remembers: what holds, else what was found beside its build.

    Args:
        published: what there is so far.
        fp32_sha256: of the file that is to be published.
        build: folder of the build that is to be published.
    """
    found, known = _read(build / TUNED_FILE) if build else None, holding(published, fp32_sha256)
    if found is None:
        return _tune_of(published, fp32_sha256)
    return found.model_copy(update={"sessions": {**found.sessions, **known}})


def _tune_of(published: PublishedModel | None, fp32_sha256: str) -> TuneRecord | None:
    if published is None or published.manifest.files[MODEL_FILE].sha256 != fp32_sha256:
        return None
    return published.manifest.tuned


def _read(file: Path) -> TuneRecord | None:
    try:
        return TuneRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        # Builds of other versions have none; a model runs without.
        return None
