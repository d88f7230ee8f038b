"""What a downloaded file is, and the config.json that follows from it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mecha.catalog.schema import ModelCatalogEntry
from mecha.detect.locate import family_preset
from mecha.detect.session import Session
from mecha.errors import ConfigError, UnsupportedModelError
from mecha.graph.fitness import OLDEST_OPSET, require_known_versions, runtime_is_there, too_old
from mecha.graph.inspect import ModelSignature, require_detector, require_image, require_sizes
from mecha.graph.reading import check_size, check_start
from mecha.graph.without_onnx import signature_at
from mecha.service.fetch import Check
from mecha.service.labels import class_names
from mecha.store.lockfile import LockedFile
from mecha.store.spec import InputSpec, ModelSpec, SourceSpec

_DETECTION = "object-detection"
_DEFAULT_SIZE = (640, 640)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a file is.

    Attributes:
        spec: config.json.
        quantized: the file is INT8 already.
    """

    spec: ModelSpec
    quantized: bool


def onnx_check(entry: ModelCatalogEntry) -> Check:
    """Return what refuses bytes that cannot become the model of an entry, before they are kept or pinned."""
    where = entry.where

    def whole(path: Path) -> None:
        _require_loadable(path, _signature(entry, path), where=where)

    return Check(
        size=lambda size_bytes: check_size(size_bytes, where=where),
        start=lambda start: check_start(start, where=where),
        whole=whole,
    )


def inspected(entry: ModelCatalogEntry, path: Path, locked: LockedFile, fetch: Callable[[str], Path]) -> Inspected:
    """Return what a model is, by what its file says and what the entry says on top.

    Args:
        fetch: brings the entry's label file.

    Raises:
        UnsupportedModelError: the entry says object detection and inputs or outputs are no detector's, or not those of
            the family that it says.
        ConfigError: the entry's input size does not suit the model, or its labels do not.
    """
    signature = _signature(entry, path)
    family = entry.family or signature.family
    names = class_names(entry, metadata=signature.names, count=signature.class_count, fetch=fetch)
    height, width = _input_size(entry, signature)
    spec = ModelSpec(
        schema=1,
        name=entry.name,
        task=entry.task,
        family=family,
        input=InputSpec(
            name=signature.inputs[0].name,
            height=height,
            width=width,
            dynamic=signature.input_size is None,
            stride=signature.stride,
        ),
        preprocessing=entry.preprocessing_preset or family_preset(family),
        classes=names,
        source=SourceSpec(repo=locked.repo, filename=locked.filename, revision=locked.revision),
    )
    if entry.task == _DETECTION and entry.family not in (None, signature.family):
        _require_family(path, spec, signature, where=f"{entry.name} ({entry.where})")
    return Inspected(spec, signature.quantized)


def _signature(entry: ModelCatalogEntry, path: Path) -> ModelSignature:
    """Say what a file is; it has the inputs and outputs that the entry's task and family need."""
    signature = signature_at(path, where=entry.where)
    where = f"{entry.name} ({entry.where})"
    if entry.task == _DETECTION:
        if entry.family is None:
            require_detector(signature, where=where)
        else:
            require_image(signature, where=where)
    require_sizes(signature, where=where)
    return signature


def _require_loadable(path: Path, signature: ModelSignature, *, where: str) -> None:
    """Refuse a model that would be published and could not run; the one that is published stays.

    Raises:
        UnsupportedModelError: onnxruntime does not load it: its opset, an operator, a shape.
    """
    if not runtime_is_there():
        return
    require_known_versions(signature, where=where)
    try:
        Session(path, threads=1, where=where)
    except UnsupportedModelError as error:
        if 0 < signature.opset < OLDEST_OPSET:
            raise too_old(signature, where=where) from error
        raise


def _require_family(path: Path, spec: ModelSpec, signature: ModelSignature, *, where: str) -> None:
    """Refuse a family that somebody says a model is of, where its outputs tell something else.

    Raises:
        UnsupportedModelError: read as that family is read, the outputs are no boxes and scores.
    """
    if not runtime_is_there():
        return
    from mecha.detect.trial import family_fault

    fault = family_fault(path, spec)
    if fault:
        found = f", it is found from the model: {signature.family}" if signature.family else ""
        raise UnsupportedModelError(
            f"{where}: it is not of the family {spec.family}: {fault}",
            hint=f"Leave the family out (--family, or `family` in the catalog){found}. Check the labels, too.",
        )


def _input_size(entry: ModelCatalogEntry, signature: ModelSignature) -> tuple[int, int]:
    if entry.input_size is None:
        return signature.input_size or signature.metadata_size or _DEFAULT_SIZE
    wanted = (entry.input_size, entry.input_size)
    if signature.input_size is not None and wanted != signature.input_size:
        height, width = signature.input_size
        raise ConfigError(
            f"{entry.name}: input_size is {entry.input_size}, the model takes {width}x{height} and nothing else",
            hint="leave input_size out, or use a model that was exported with a dynamic input",
        )
    if entry.input_size % signature.stride:
        raise ConfigError(
            f"{entry.name}: input_size is {entry.input_size}, expected a multiple of {signature.stride}",
            hint=f"for example {max(1, round(entry.input_size / signature.stride)) * signature.stride}",
        )
    return wanted
