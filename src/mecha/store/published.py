"""What stands in the folder of a published model, and how it is read."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from mecha.errors import ConfigError
from mecha.store.damage import is_marked
from mecha.store.format import require_known_schema
from mecha.store.manifest import Manifest
from mecha.store.spec import ModelSpec
from mecha.validation import json_line_of, parse_json, read_text, validated
from mecha.words import size_words

MODEL_FILE = "model.onnx"
INT8_FILE = "model-int8.onnx"
LABELS_FILE = "labels.txt"
SPEC_FILE = "config.json"
MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.md"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model that can be used.

    Attributes:
        path: its folder, `models/<name>` except after a crash on a system without an exchange of folders.
    """

    name: str
    path: Path
    manifest: Manifest
    spec: ModelSpec

    @property
    def fp32_path(self) -> Path:
        """model.onnx, byte for byte as it was published; FP32 unless `quantized`."""
        return self.path / MODEL_FILE

    @property
    def int8_path(self) -> Path | None:
        """model-int8.onnx; None unless there is a build and the file is there."""
        file = self.path / INT8_FILE
        return file if self.manifest.int8.state == "built" and file.is_file() else None

    @property
    def quantized(self) -> bool:
        """model.onnx itself is INT8: the model was published so, and there is no FP32."""
        return self.manifest.int8.state == "published"

    @property
    def by_precision(self) -> dict[Literal["FP32", "INT8"], Path]:
        """The ONNX files, FP32 first where there is one."""
        if self.quantized:
            return {"INT8": self.fp32_path}
        int8 = self.int8_path
        return {"FP32": self.fp32_path} if int8 is None else {"FP32": self.fp32_path, "INT8": int8}

    @property
    def suspect(self) -> bool:
        """Somebody found that a file is not what the manifest says; the next pull looks, and heals it."""
        return is_marked(self.path)

    @property
    def report_path(self) -> Path | None:
        """report.md, None when there is none."""
        file = self.path / REPORT_FILE
        return file if file.is_file() else None


@dataclass(frozen=True, slots=True)
class BrokenModel:
    """A folder with a manifest that cannot be used, and why.

    Attributes:
        newer: a newer mecha has written it; a pull would destroy it.
    """

    name: str
    reason: str
    newer: bool = False


def open_model(folder: Path, name: str, *, as_is: bool) -> PublishedModel:
    """Read a model. Raises ConfigError and the like, and OSError, when there is something wrong with it."""
    manifest = read_manifest(folder)
    spec = _read_spec(folder, manifest, as_is=as_is)
    size = (folder / MODEL_FILE).stat().st_size
    if manifest.name != name:
        raise ConfigError(f'{MANIFEST_FILE}: name: got "{manifest.name}"; expected "{name}"')
    record = manifest.files.get(MODEL_FILE)
    if record is None or size != record.size_bytes:
        expected = "a size in the manifest" if record is None else size_words(record.size_bytes)
        raise ConfigError(f"{MODEL_FILE}: got {size_words(size)}; expected {expected}")
    return PublishedModel(name, folder, manifest, spec)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a folder.

    Raises:
        ConfigError: it cannot be used; NewerFormatError where a newer mecha wrote it.
    """
    text = read_text(folder / MANIFEST_FILE, where=MANIFEST_FILE)
    document = parse_json(text, where=MANIFEST_FILE)
    require_known_schema(document, MANIFEST_FILE)
    return validated(Manifest, document, where=MANIFEST_FILE, line_of=json_line_of(text))


def _read_spec(folder: Path, manifest: Manifest, *, as_is: bool) -> ModelSpec:
    text = read_text(folder / SPEC_FILE, where=SPEC_FILE)
    record = manifest.files.get(SPEC_FILE)
    if not as_is and record is not None and sha256(text.encode()).hexdigest() != record.sha256:
        raise ConfigError(f"{SPEC_FILE}: the content is not what {MANIFEST_FILE} says")
    return validated(ModelSpec, parse_json(text, where=SPEC_FILE), where=SPEC_FILE, line_of=json_line_of(text))


def require_complete(name: str, staged: Path, manifest: Manifest) -> None:
    """Raise ValueError unless a folder holds what its manifest says: a mistake of the caller, not of a user."""
    if manifest.name != name:
        raise ValueError(f"got the manifest of {manifest.name!r}; expected {name!r}")
    for filename in {MODEL_FILE, SPEC_FILE, *manifest.files}:
        record = manifest.files.get(filename)
        file = staged / filename
        if record is None or not file.is_file() or file.stat().st_size != record.size_bytes:
            raise ValueError(f"{file} is not the file of the manifest: {record}")
