"""What a catalog says of a model and what is published of it: one line of `models list`, and all of it for `show`."""

from typing import Any

from mecha.catalog.schema import ModelCatalogEntry
from mecha.service.report import ModelRow, PullReport
from mecha.store.damage import marked
from mecha.store.published import INT8_FILE, MODEL_FILE, BrokenModel, PublishedModel


def model_row(
    name: str, entry: ModelCatalogEntry | None, found: PublishedModel | BrokenModel | None, source: str
) -> ModelRow:
    """Return the line of `models list` about one model.

    Args:
        entry: None where no catalog names it.
        found: None where it is not pulled.
        source: catalog layer, or "unlisted".
    """
    common = {"name": name, "source": source, "description": entry.description if entry else ""}
    licence = (entry.license if entry else None) or "unknown"
    if not isinstance(found, PublishedModel):
        state = "available" if found is None else "broken"
        return ModelRow(
            state=state, fp32_bytes=None, int8_bytes=None, method=None, verdict=None, licence=licence, **common
        )
    manifest = found.manifest
    fp32, int8 = manifest.files.get(MODEL_FILE), manifest.files.get(INT8_FILE)
    if found.quantized:
        fp32, int8 = None, fp32
    state = "ready" if int8 is not None or manifest.int8.state in ("disabled", "rejected") else "fp32-only"
    return ModelRow(
        state="broken" if found.suspect else state,
        fp32_bytes=fp32.size_bytes if fp32 else None,
        int8_bytes=int8.size_bytes if int8 else None,
        method=manifest.int8.method or None,
        verdict=manifest.int8.gate.verdict if manifest.int8.gate else None,
        licence=manifest.licence,
        **common,
    )


def model_details(
    name: str, entry: ModelCatalogEntry | None, found: PublishedModel | BrokenModel | None, source: str
) -> dict[str, Any]:
    """Return what `models show --json` writes; arguments as those of `model_row`."""
    published = found if isinstance(found, PublishedModel) else None
    return {
        "schema": 1,
        "name": name,
        "state": model_row(name, entry, found, source).state,
        "fault": _fault(found),
        "source": source,
        "licence": (entry.license if entry else None) or (published.manifest.licence if published else "unknown"),
        "catalog": entry.model_dump(mode="json", exclude_none=True) if entry else None,
        "path": str(published.path) if published else None,
        "config": published.spec.model_dump(mode="json", by_alias=True) if published else None,
        "manifest": published.manifest.model_dump(mode="json", by_alias=True) if published else None,
        "tuned_here": _is_tuned_here(published),
    }


def _fault(found: PublishedModel | BrokenModel | None) -> str | None:
    """Return why a model is broken, None where it is not known to be."""
    if isinstance(found, BrokenModel):
        return found.reason
    if found is None or not found.suspect:
        return None
    return f"{', '.join(marked(found.path)) or 'a file'}: got other content; expected what the manifest says"


def _is_tuned_here(published: PublishedModel | None) -> bool:
    """Tell whether a model's sessions run as a tune found them: it was measured on this device."""
    tuned = published.manifest.tuned if published else None
    if tuned is None:
        return False
    from mecha.service.tuning import holds_here

    return holds_here(tuned)


def pull_report(published: PublishedModel, *, changed: bool, calibrated: bool, downloaded_bytes: int) -> PullReport:
    """Return what a pull says of the model that is published now.

    Args:
        calibrated: the pull was asked to calibrate on something else than before.
    """
    int8 = published.manifest.int8
    gate = int8.gate
    built = int8.state in ("built", "published")
    return PullReport(
        name=published.name,
        path=str(published.path),
        changed=changed,
        method=int8.method if built else None,
        verdict=gate.verdict if gate else None,
        provisional=bool(int8.calibration and int8.calibration.provisional and built),
        speedup=gate.speedup if gate else None,
        agreement=gate.agreement.agreement if gate and gate.agreement else None,
        downloaded_bytes=downloaded_bytes,
        licence=published.manifest.licence,
        message=int8.message,
        change=(int8.change.before, int8.change.after) if int8.change and calibrated else None,
    )
