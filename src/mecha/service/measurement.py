"""What is measured of a published model when somebody asks: `models bench`, `models tune`, `models eval`."""

from pathlib import Path
from typing import Any

from mecha.progress import Progress
from mecha.service.turn import turn
from mecha.store.models import ModelStore

# A pull of the same model holds the lock for as long as it builds INT8.
_LOCK_TIMEOUT_S = 60.0


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
) -> dict[str, Any]:
    """Measure mAP of both precisions; see `ModelService.eval`."""
    published = store.require(name)
    from mecha.gate.accuracy import accuracy

    return accuracy(published, data, images, limit=limit, threads=threads, progress=progress)


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
