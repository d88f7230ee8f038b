"""One line of `models list`: what a catalog says of a model, and what is published of it."""

from mecha.catalog.schema import ModelCatalogEntry
from mecha.service.report import ModelRow
from mecha.store.models import INT8_FILE, MODEL_FILE, BrokenModel, PublishedModel


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
    return ModelRow(
        state="ready" if int8 is not None or manifest.int8.state in ("disabled", "rejected") else "fp32-only",
        fp32_bytes=fp32.size_bytes if fp32 else None,
        int8_bytes=int8.size_bytes if int8 else None,
        method=manifest.int8.method or None,
        verdict=manifest.int8.gate.verdict if manifest.int8.gate else None,
        licence=manifest.licence,
        **common,
    )
