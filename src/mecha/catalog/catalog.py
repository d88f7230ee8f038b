"""Read the catalogs and lay them over each other: package < user < project, a later entry of a name wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mecha.catalog.schema import CalibrationConfig, ModelCatalogEntry, source_fault
from mecha.catalog.signature import check_signature
from mecha.errors import MechaError, NotFoundError
from mecha.faults import KeyFault
from mecha.positions import LineOf
from mecha.project import CATALOG_NAME, Project, bundled_dir
from mecha.validation import Frozen, checked, config_error, decoded, parse_toml, read_bytes, toml_line_of
from mecha.words import did_you_mean

Layer = Literal["package", "user", "project"]
_Tables = Sequence[tuple[int, dict[str, Any]]]


class _CatalogFile(Frozen):
    models: tuple[ModelCatalogEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries that can be pulled, in the order of the files; `origins` tells the layer and file of each name."""

    entries: tuple[ModelCatalogEntry, ...]
    origins: Mapping[str, tuple[Layer, Path]]

    def get(self, name: str) -> ModelCatalogEntry:
        """Return the entry of a name.

        Raises:
            NotFoundError: there is none; the message has the nearest name.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise NotFoundError(
            f'model "{name}" is not in the catalog{did_you_mean(name, self.origins)}',
            hint="`mecha models list` shows what can be pulled.",
        )

    def layer_of(self, name: str) -> Layer:
        """Return which layer the entry of a name comes from. Raises NotFoundError as `get` does."""
        return self.origins[self.get(name).name][0]

    def file_of(self, name: str) -> Path:
        """Return the file the entry of a name comes from. Raises NotFoundError as `get` does."""
        return self.origins[self.get(name).name][1]


def load_catalog(project: Project) -> Catalog:
    """Read the catalogs of the package, the user and the project.

    Raises:
        ConfigError: with all faults of the first file that has any.
        IntegrityError: a key is set, and a catalog of the user or the project is not signed with it.
    """
    entries: dict[str, ModelCatalogEntry] = {}
    origins: dict[str, tuple[Layer, Path]] = {}
    for layer, file in _layers(project):
        where = CATALOG_NAME if file == project.catalog_file and not project.user_level else str(file)
        key = None if layer == "package" else project.catalog_key
        for entry in read_catalog(file, where=where, key=key):
            entries[entry.name] = entry
            origins[entry.name] = (layer, file)
    return Catalog(tuple(entries.values()), origins)


def pullable_names(project: Project) -> frozenset[str] | None:
    """Return the names that the catalogs have; None where they cannot be read, which a pull says with the reason."""
    try:
        return frozenset(load_catalog(project).origins)
    except MechaError:
        return None


def read_catalog(file: Path, *, where: str, key: str | None = None) -> tuple[ModelCatalogEntry, ...]:
    """Read one catalog file; `where` names it in messages. Paths of models and calibration photos come back absolute.

    Args:
        key: public key of minisign that it must be signed with, None for any catalog.

    Raises:
        ConfigError: with all faults, each with its key path and line.
        IntegrityError: it is not signed with the key.
    """
    content = read_bytes(file, where=where)
    if key is not None:
        check_signature(file, content, key, where=where)
    entries = parse_catalog(decoded(content, where=where), where=where)
    return tuple(_anchored(entry, file.absolute().parent) for entry in entries)


def parse_catalog(text: str, *, where: str) -> tuple[ModelCatalogEntry, ...]:
    """Return the entries of a catalog text; errors as in `read_catalog`."""
    data = parse_toml(text, where=where)
    line_of = toml_line_of(text)
    catalog, faults = checked(_CatalogFile, data, line_of=line_of)
    models = data.get("models")
    listed = models if isinstance(models, list) else []
    tables = [(index, model) for index, model in enumerate(listed) if isinstance(model, dict)]
    # pydantic looks at an entry as a whole only when each of its keys is right.
    told = {fault.path for fault in faults}
    sources = [fault for fault in _source_faults(tables, line_of) if fault.path not in told]
    repeated = _repeated_names(tables, line_of)
    if catalog is None or repeated:
        raise config_error(where, (*faults, *sources, *repeated))
    return catalog.models


def _layers(project: Project) -> tuple[tuple[Layer, Path], ...]:
    """Return the catalog files that exist, each once under its last layer: a source checkout is package and project."""
    candidates: tuple[tuple[Layer, Path], ...] = (
        ("package", bundled_dir() / CATALOG_NAME),
        ("user", project.user_root / CATALOG_NAME),
        ("user" if project.user_level else "project", project.catalog_file),
    )
    by_file = {file.resolve(): (layer, file) for layer, file in candidates if file.is_file()}
    return tuple(by_file.values())


def _source_faults(tables: _Tables, line_of: LineOf) -> list[KeyFault]:
    found = ((("models", index), source_fault(model.keys())) for index, model in tables)
    return [KeyFault(path, line_of(path), text) for path, text in found if text is not None]


def _repeated_names(tables: _Tables, line_of: LineOf) -> list[KeyFault]:
    first: dict[str, int | None] = {}
    faults: list[KeyFault] = []
    for index, model in tables:
        name = model.get("name")
        if not isinstance(name, str):
            continue
        path = ("models", index, "name")
        if name in first:
            faults.append(
                KeyFault(path, line_of(path), f'"{name}" is already the name of the entry in line {first[name]}')
            )
        else:
            first[name] = line_of(path)
    return faults


def _anchored(entry: ModelCatalogEntry, folder: Path) -> ModelCatalogEntry:
    """Make the paths of model and calibration photos absolute: they are relative to the catalog that names them."""
    if entry.path is not None:
        entry = entry.model_copy(update={"path": str(folder / Path(entry.path).expanduser())})
    calibration = entry.quantize.calibration
    if calibration is None:
        return entry
    paths: dict[str, str] = {}
    for key in ("path", "data", "list"):
        value: str | None = getattr(calibration, key)
        if value is not None:
            paths[key] = str(folder / Path(value).expanduser())
    placed: CalibrationConfig = calibration.model_copy(update=paths)
    return entry.model_copy(update={"quantize": entry.quantize.model_copy(update={"calibration": placed})})
