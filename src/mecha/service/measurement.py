"""What is measured of a published model when somebody asks: `models bench`, `models tune`, `models eval`."""

from pathlib import Path
from typing import Any

from mecha.errors import IntegrityError, MechaError
from mecha.progress import Progress
from mecha.service.report import Evaluation
from mecha.service.turn import turn
from mecha.store.digests import sha256_of
from mecha.store.manifest import AccuracyRecord
from mecha.store.models import ModelStore
from mecha.store.published import INT8_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.revision import revise

# A pull of the same model holds the lock for as long as it builds INT8.
_LOCK_TIMEOUT_S = 60.0
_MEASURED = (MODEL_FILE, INT8_FILE, SPEC_FILE)


def benched(store: ModelStore, name: str, *, threads: int | None) -> dict[str, Any]:
    """Measure both precisions in turns; see `ModelService.bench`."""
    from mecha.detect.session import default_threads
    from mecha.gate.latency import bench

    return bench(store.require(name), threads=threads or default_threads())


def evaluated(
    store: ModelStore,
    name: str,
    data: Path,
    images: Path,
    *,
    limit: int | None,
    threads: int | None,
    progress: Progress,
) -> Evaluation:
    """Measure mAP of both precisions, and remember it; see `ModelService.eval`."""
    published = store.require(name)
    from mecha.gate.accuracy import accuracy

    digest = sha256_of(data) if data.is_file() else ""
    figures = accuracy(published, data, images, limit=limit, threads=threads, progress=progress)
    fp32, int8 = figures["fp32"], figures["int8"]
    if limit is not None or fp32 is None or int8 is None:
        return Evaluation(figures)
    found = AccuracyRecord(
        images=figures["images"],
        fp32_map=fp32["map"],
        int8_map=int8["map"],
        fp32_map50=fp32["map50"],
        int8_map50=int8["map50"],
        data=data.name,
        sha256=digest,
    )
    try:
        _remember(store, published, found, progress)
    except MechaError as error:
        # A disk that takes no more, or a build that holds the model, takes nothing from what was measured.
        return Evaluation(figures, fault=str(error), hint=error.hint)
    return Evaluation(figures, remembered=True)


def _remember(store: ModelStore, measured: PublishedModel, found: AccuracyRecord, progress: Progress) -> None:
    """Write what was found into the manifest and the report of a model, both in one step.

    Raises:
        BusyError: somebody else works on the model.
        IntegrityError: it is another one by now, or its report cannot be written again.
        DiskError: all is as it was.
    """
    from mecha.service.build_report import rewritten_report

    name = measured.name
    with turn(store.lock_file(name), f"evaluation of {name}", progress, timeout_s=_LOCK_TIMEOUT_S):
        now = store.require(name)
        if any(now.manifest.files.get(file) != measured.manifest.files.get(file) for file in _MEASURED):
            raise IntegrityError(
                f"{name}: another build was published while this one was measured",
                hint="Measure it again.",
            )
        record = now.manifest.int8.model_copy(update={"accuracy": found})
        manifest = now.manifest.model_copy(update={"int8": record})
        revise(store, now, manifest, rewritten_report(store, now, record))


def tuned(store: ModelStore, name: str, progress: Progress) -> dict[str, Any]:
    """Find what runs a model fastest here, and remember it; see `ModelService.tune`."""
    from mecha.gate.tune import tune, tune_record

    tunings = tune(store.require(name))
    record = tune_record({tuning.precision: tuning.chosen for tuning in tunings})
    with turn(store.lock_file(name), f"tune of {name}", progress, timeout_s=_LOCK_TIMEOUT_S):
        store.remember(name, record)
    return {
        "schema": 1,
        "name": name,
        "device": record.device,
        "onnxruntime": record.onnxruntime,
        "sessions": [
            {
                "precision": tuning.precision,
                **tuning.chosen.model_dump(),
                "tried": [session.model_dump() for session in tuning.tried],
            }
            for tuning in tunings
        ],
    }
