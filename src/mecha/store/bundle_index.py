"""index.json of a bundle: which models are in it, and every file by digest and size.

It says nothing that is believed before it was compared: with itself here, with the bytes while they are read.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_serializer

import mecha
from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import ConfigError, IntegrityError
from mecha.store.lockfile import LockedFile
from mecha.store.manifest import Manifest
from mecha.store.published import INT8_FILE, LABELS_FILE, MODEL_FILE, SPEC_FILE
from mecha.store.spec import Frozen
from mecha.words import size_words

INDEX_FILE = "index.json"
LARGEST_INDEX_BYTES = 16_000_000
LARGEST_FILE_BYTES = 2**31
"""No model is larger: ONNX ends at 2 GB."""

AGAIN = "Nothing was imported. Copy the bundle again, or export it again."
_NEEDED = frozenset({MODEL_FILE, SPEC_FILE, LABELS_FILE})
_REPORTS = re.compile(r"report\.(md|html|json)")


class Content(Frozen):
    """A file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0, le=LARGEST_FILE_BYTES)

    @property
    def member(self) -> str:
        """Its name in the archive."""
        return f"files/{self.sha256}"


class BundledModel(Frozen):
    """One model.

    Attributes:
        entry: of the catalog, in a form that holds on every device.
        manifest: as it was published.
        files: of the model's folder, as they were when they were put in; config.json may have been edited.
        locked: entries of mecha.lock about the model's files. The content of calibration photos may be left out.
        left_out: sentences about what a device needs besides.
    """

    entry: ModelCatalogEntry
    manifest: Manifest
    files: dict[str, Content]
    locked: tuple[LockedFile, ...]
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.entry.name

    @property
    def fp32(self) -> Content:
        """model.onnx."""
        return self.files[MODEL_FILE]

    @property
    def int8(self) -> Content | None:
        """model-int8.onnx, None where there is no build."""
        return self.files.get(INT8_FILE)

    @field_serializer("entry")
    def _as_in_a_catalog(self, entry: ModelCatalogEntry) -> dict[str, Any]:
        return entry.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


class Index(Frozen):
    """index.json.

    Attributes:
        mecha: version that wrote it.
        files: everything that follows in the archive, each once.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    mecha: str
    models: tuple[BundledModel, ...] = Field(min_length=1)
    files: tuple[Content, ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class _Head(Frozen):
    schema_: int = Field(alias="schema")
    mecha: str = "another version"

    model_config = ConfigDict(extra="ignore")


def read_index(text: bytes, where: str) -> Index:
    """Return the index that a bundle begins with.

    Args:
        where: names the bundle in messages.

    Raises:
        ConfigError: a newer mecha wrote it.
        IntegrityError: it is no index, or contradicts itself.
    """
    try:
        head = _Head.model_validate_json(text, strict=True)
        if head.schema_ > 1:
            raise ConfigError(
                f"{where}: format {head.schema_}, written by mecha {head.mecha}; "
                f"mecha {mecha.__version__} reads format 1",
                hint="Nothing was imported. Install a newer mecha here, or export with an older one.",
            )
        index = Index.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _no_index(error, where) from error
    fault = next(_faults(index), None)
    if fault is not None:
        raise IntegrityError(f"{where}: {INDEX_FILE}: {fault}", hint=AGAIN)
    return index


def serialised_index(index: Index) -> bytes:
    """Return index.json as it is written."""
    return f"{index.model_dump_json(by_alias=True, indent=1)}\n".encode()


def _no_index(error: ValidationError, where: str) -> IntegrityError:
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    what = f"{fault['msg'][:1].lower()}{fault['msg'][1:]}"
    return IntegrityError(f"{where}: {INDEX_FILE}: {f'{place}: ' if place else ''}{what}", hint=AGAIN)


def _faults(index: Index) -> Iterator[str]:
    sizes = {content.sha256: content.size_bytes for content in index.files}
    if len(sizes) != len(index.files):
        yield "files: a file is named twice"
    names = [model.name for model in index.models]
    if len(set(names)) != len(names):
        yield "models: a name is there twice"
    used: set[str] = set()
    for model in index.models:
        used |= {content.sha256 for content in model.files.values()} | {item.sha256 for item in model.locked}
        for fault in _faults_of_model(model, sizes):
            yield f"{model.name}: {fault}"
    for sha256 in sizes.keys() - used:
        yield f"files: {sha256} belongs to no model"


def _faults_of_model(model: BundledModel, sizes: dict[str, int]) -> Iterator[str]:
    manifest, entry = model.manifest, model.entry
    if manifest.name != entry.name:
        yield f'the manifest is of "{manifest.name}"'
    for name in sorted(model.files.keys() - _NEEDED):
        if name != INT8_FILE and _REPORTS.fullmatch(name) is None:
            yield f"{name!r} is no file of a model"
    for name in sorted(_NEEDED - model.files.keys()):
        yield f"{name} is missing"
    if (manifest.int8.state == "built") != (INT8_FILE in model.files):
        yield f"INT8 is {manifest.int8.state}, and {INT8_FILE} is {'there' if INT8_FILE in model.files else 'missing'}"
    said = (manifest.licence, manifest.int8.message, *manifest.device.values(), *manifest.tools.values())
    if not all(text.isprintable() for text in (*said, entry.description, entry.license or "")):
        yield "a text that is shown to people has control characters"
    for name, content in sorted(model.files.items()):
        record = manifest.files.get(name)
        if sizes.get(content.sha256) != content.size_bytes:
            yield f"{name}: {content.sha256} of {size_words(content.size_bytes)} is not among the files"
        if name in (MODEL_FILE, INT8_FILE) and (record is None or record.sha256 != content.sha256):
            yield f"{name}: the manifest is of another file"
    yield from _faults_of_entry(entry)
    yield from _faults_of_lock(model, sizes)


def _faults_of_entry(entry: ModelCatalogEntry) -> Iterator[str]:
    """Refuse what another device's disk is named by: the entry goes into a catalog here."""
    if entry.path is not None:
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or set(entry.path) & set("\\:~") or entry.path != str(path):
            yield f"path: got {entry.path!r}; expected a path within the project"
    calibration = entry.quantize.calibration
    if calibration is not None and calibration.repo is None:
        yield "calibration: names photos of another device"


def _faults_of_lock(model: BundledModel, sizes: dict[str, int]) -> Iterator[str]:
    """Refuse pins of files that are none of this model's: they would be believed by pulls of others."""
    entry, calibration = model.entry, model.entry.quantize.calibration
    repo_type = "model" if entry.path is None else "file"
    own = {(repo_type, entry.repo, entry.path or entry.filename)}
    beside = {("model", entry.repo, str(entry.label_file))} if entry.repo and entry.label_file else set()
    if calibration is not None:
        beside |= {(calibration.repo_type, str(calibration.repo), file) for file in calibration.files}
    for item in model.locked:
        if item.identity[:3] not in own | beside:
            yield f"locked: {item.filename!r} is no file of this model"
        if item.size_bytes != sizes.get(item.sha256, item.size_bytes):
            yield f"locked: {item.filename!r} has another size than the file"
    if [item.sha256 for item in model.locked if item.identity[:3] in own] != [model.fp32.sha256]:
        yield f"locked: expected one entry of {MODEL_FILE}, with its sha256"
