"""What is published on this device, in the words of Ollama's API."""

from hashlib import sha256
from typing import Any

from mecha.daemon.models_shapes import Details, LoadedModel, LocalModel, ShownModel
from mecha.store.faults import disk_error
from mecha.store.published import MANIFEST_FILE, MODEL_FILE, PublishedModel

FOREVER = "9999-12-31T23:59:59Z"
"""When a model of a node is unloaded: not before the node ends."""
_FP32_BYTES, _INT8_BYTES = 4, 1
"""Of one parameter."""


def local_model(model: PublishedModel) -> LocalModel:
    """Return the line of `GET /api/tags` about a model."""
    return LocalModel(
        name=model.name,
        model=model.name,
        modified_at=model.manifest.created,
        size=sum(record.size_bytes for record in model.manifest.files.values()),
        digest=_digest(model),
        details=details_of(model, _best(model)),
    )


def loaded_model(model: PublishedModel, node: str, precision: str) -> LoadedModel:
    """Return the line of `GET /api/ps` about a model that a node runs.

    Args:
        precision: that runs, "FP32" or "INT8".
    """
    file = next((path.name for name, path in model.by_precision.items() if name == precision), MODEL_FILE)
    return LoadedModel(
        name=model.name,
        model=model.name,
        size=model.manifest.files[file].size_bytes,
        digest=_digest(model),
        details=details_of(model, precision),
        expires_at=FOREVER,
        precision=precision,
        node=node,
    )


def shown_model(model: PublishedModel) -> ShownModel:
    """Return the answer of `POST /api/show` about a model."""
    spec = model.spec
    return ShownModel(
        license=spec.licence,
        details=details_of(model, _best(model)),
        model_info=_info(model),
        capabilities=[spec.task],
        modified_at=model.manifest.created,
    )


def details_of(model: PublishedModel, precision: str) -> Details:
    """Return what kind of model it is, as it runs in a precision."""
    family = model.spec.family or "unknown"
    return Details(
        family=family,
        families=[family],
        parameter_size=_parameters(model),
        quantization_level=precision,
    )


def _info(model: PublishedModel) -> dict[str, Any]:
    spec = model.spec
    info: dict[str, Any] = {
        "general.architecture": spec.family or "unknown",
        "general.name": spec.name,
        "general.license": spec.licence,
        "general.source.repo": spec.source.repo,
        "general.source.filename": spec.source.filename,
        "general.source.revision": spec.source.revision,
        "mecha.task": spec.task,
        "mecha.input.height": spec.input.height,
        "mecha.input.width": spec.input.width,
        "mecha.preprocessing": spec.preprocessing,
        "mecha.classes": list(spec.classes),
    }
    if spec.int8 is not None:
        info |= {f"mecha.int8.{key}": value for key, value in spec.int8.model_dump().items()}
    return info


def _best(model: PublishedModel) -> str:
    return "INT8" if "INT8" in model.by_precision else "FP32"


def _parameters(model: PublishedModel) -> str:
    """Say how many parameters there are, by the size of the file: `3.2M`."""
    one = _INT8_BYTES if model.quantized else _FP32_BYTES
    count = model.manifest.files[MODEL_FILE].size_bytes / one
    for unit in ("", "K", "M"):
        if count < 1000:  # noqa: PLR2004 - decimal units
            return f"{count:.1f}{unit}" if unit else f"{count:.0f}"
        count /= 1000
    return f"{count:.1f}B"


def _digest(model: PublishedModel) -> str:
    """Return the sha256 that stands for all of a model; manifests of earlier versions do not state it."""
    if model.manifest.digest:
        return model.manifest.digest
    file = model.path / MANIFEST_FILE
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise disk_error(error, file, "read") from error
