"""Taking models out of a bundle: read it to its end, put its files into the cache, and pull from there.

What is published is what a pull publishes: the file is looked at, its INT8 stays where it is what would be built here,
and is built here where it is not. Nothing of a bundle is believed before all of it was read and compared; from then on
whatever a crash leaves is a file of the cache, or an entry whose file is in the cache: the next pull finds it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import ValidationError

from mecha.errors import ConfigError, IntegrityError, NotFoundError
from mecha.graph.cpu import cpu_features
from mecha.service.build_report import REPORT_FILES
from mecha.service.bundle_plan import Here, Plan, fp32_of, planned
from mecha.service.collection import at_work
from mecha.service.packing import ExportReport, Packing
from mecha.service.publication import RECORD_FILE
from mecha.service.report import PullReport
from mecha.service.tools import tool_versions
from mecha.service.tuning import TUNED_FILE, holds_here
from mecha.service.turn import turn
from mecha.store.atomic import discard, make_dir, sweep, unfinished_path, write_file
from mecha.store.blobs import link_or_copy
from mecha.store.bundle import BundleReader
from mecha.store.bundle_index import AGAIN, BundledModel, Content
from mecha.store.catalog_file import add_entry, put_back
from mecha.store.faults import disk_error, on_one_disk, require_space
from mecha.store.manifest import Int8Record
from mecha.store.published import INT8_FILE, SPEC_FILE, PublishedModel
from mecha.store.spec import ModelSpec, serialised
from mecha.validation import read_text
from mecha.words import did_you_mean

_LOCK_TIMEOUT_S = 3600.0
# What INT8 that has to be built here takes besides, as a share of FP32.
_INT8_SHARE = 0.8
# What is said of an INT8 build, besides its record.
_OF_BUILD = frozenset({INT8_FILE, SPEC_FILE, *REPORT_FILES})


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """What became of one model.

    Attributes:
        int8: "kept" as it was in the bundle, "built" here, "none", or "unchanged" where all was here already.
        added_to: the catalog that its entry was added to, None where it has one here.
        note: whether INT8 of the bundle was kept, and why not; empty where there was none.
    """

    report: PullReport
    int8: Literal["kept", "built", "none", "unchanged"]
    added_to: Path | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did."""

    bundle: str
    models: tuple[ImportedModel, ...]


class Bundles(Here):
    """Writes models of a project into bundles, and takes them out."""

    def export(self, names: Iterable[str], out: Path | BinaryIO) -> ExportReport:
        """Write models into a bundle. Raises MechaError as `Packing.run`."""
        return Packing(self.project, self.store, self.cache, self.lock_file, self.progress).run(names, out)

    def take(self, bundle: Path | BinaryIO, names: Iterable[str] = ()) -> ImportReport:
        """Take models out of a bundle; what is here already stays; the bundle is read to its end in any case.

        Args:
            bundle: a file, or a stream of its bytes.
            names: of the models that are taken; all of them by default.

        Raises:
            NotFoundError: there is no such file, or no such model in it.
            IntegrityError: it is no bundle, or not whole: nothing was changed.
            ConfigError: a newer mecha wrote it; or a model cannot be used here.
            UsageError: a name stands for another model here.
            DiskError: there is no space; nothing was changed.
            BusyError: another import took an hour.
        """
        where = str(bundle) if isinstance(bundle, Path) else "-"
        lock = self.store.models_dir / ".import.lock"
        with turn(lock, f"import of {where}", self.progress, timeout_s=_LOCK_TIMEOUT_S), _opened(bundle) as stream:
            return _Import(self, BundleReader(stream, where), where).run(names)


class _Import:
    """Takes models out of one bundle."""

    def __init__(self, to: Bundles, reader: BundleReader, where: str) -> None:
        self._to, self._reader, self._where = to, reader, where
        self._project, self._store, self._cache, self._lock_file = to.project, to.store, to.cache, to.lock_file
        self._contents = {content.sha256: content for content in reader.index.files}

    def run(self, names: Iterable[str]) -> ImportReport:
        models = _selected(self._reader.index.models, names, self._where)
        plans = tuple(planned(model, self._to) for model in models)
        waiting = [plan.model for plan in plans if plan.done is None]
        if waiting:
            with at_work(self._project, self._cache), self._staging() as folder:
                missing = self._missing(waiting)
                self._require_space(waiting, missing)
                files = self._reader.extract(missing.keys(), folder, self._to.progress)
                builds = {model.name: _laid_out(model, files, folder) for model in waiting}
                for sha256 in files.keys() & {sha256 for model in waiting for sha256 in _blobs(model)}:
                    self._cache.adopt(files[sha256], sha256)
                return ImportReport(self._where, tuple(self._taken(plan, builds) for plan in plans))
        # Not believed either before all of it was compared; and whoever writes it into a pipe has to come to its end.
        self._reader.check(self._to.progress)
        return ImportReport(self._where, tuple(_as_it_was(plan) for plan in plans))

    def _missing(self, models: list[BundledModel]) -> dict[str, Content]:
        """Return what is kept of the bundle: what the cache does not have, and INT8 with all that is said of it."""
        wanted = {sha256 for model in models for sha256 in _blobs(model) & self._contents.keys()}
        missing = {sha256: self._contents[sha256] for sha256 in wanted if self._cache.find(sha256) is None}
        for model in models:
            if _has_verdict(model):
                missing |= {item.sha256: item for name, item in model.files.items() if name in _OF_BUILD}
        return missing

    def _require_space(self, models: list[BundledModel], missing: dict[str, Content]) -> None:
        needed = sum(content.size_bytes for content in missing.values())
        int8 = sum(int(_INT8_SHARE * model.fp32.size_bytes) for model in models)
        require_space(self._cache.root, needed, what=self._where, int8_bytes=int8)
        if not on_one_disk(self._cache.root, self._store.models_dir):
            published = sum(content.size_bytes for model in models for content in model.files.values())
            require_space(self._store.models_dir, published, what=self._where)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """Give a folder in the file system of the cache; it goes, after a crash by the next import."""
        folder = unfinished_path(self._cache.root / "imports" / "bundle", "staging")
        sweep(folder.parent)
        make_dir(folder)
        try:
            yield folder
        finally:
            discard(folder)

    def _taken(self, plan: Plan, builds: Mapping[str, PublishedModel | None]) -> ImportedModel:
        if plan.done is not None:
            return _as_it_was(plan)
        model, options = plan.model, replace(plan.options, imported=builds[plan.model.name])
        with ExitStack() as undo:
            self._enter(plan, undo)
            report = self._to.pull(plan.entry, options, self._to.progress)
            undo.pop_all()
        added_to = self._project.catalog_file if plan.is_new else None
        record = self._store.require(model.name).manifest.int8
        if report.method is None:
            return ImportedModel(report, "none", added_to, _why_not(model, record))
        if record == model.manifest.int8:
            return ImportedModel(report, "kept", added_to, "INT8 is that of the bundle: CPU and onnxruntime are alike")
        return ImportedModel(report, "built", added_to, _why_not(model, record))

    def _enter(self, plan: Plan, undo: ExitStack) -> None:
        """Write a model into mecha.lock and the catalog; `undo` puts both back, unless FP32 was published.

        Both before the pull: whenever the power goes, the next pull finds the files in the cache.
        """
        model, catalog = plan.model, self._project.catalog_file
        if plan.is_new and self._project.catalog_key is not None:
            raise ConfigError(
                f"{catalog}: has no entry of {model.name}, and must be signed here (catalog.public_key, or "
                "MECHA_CATALOG_KEY), which mecha cannot do",
                hint="Write the entry where the secret key is, sign the catalog, and import with both files here.",
            )
        before = {item.identity: item for item in self._lock_file.entries()}
        text = _text(catalog)

        def as_before() -> None:
            published = self._store.published(model.name)
            if published is not None and fp32_of(published) == model.fp32.sha256:
                return  # it works, whatever became of its INT8
            for item in model.locked:
                if item.identity in before:
                    self._lock_file.put(before[item.identity])
            self._lock_file.drop({item.identity for item in model.locked} - before.keys())
            if plan.is_new and _text(catalog) != text:
                put_back(catalog, text)

        undo.callback(as_before)
        for item in model.locked:
            self._lock_file.put(item)
        if plan.is_new:
            add_entry(catalog, model.entry)


def _text(catalog: Path) -> str | None:
    return read_text(catalog, where=str(catalog)) if catalog.exists() else None


@contextmanager
def _opened(bundle: Path | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(bundle, Path):
        yield bundle
        return
    if not bundle.is_file():
        what = "a folder" if bundle.is_dir() else "no such file"
        raise NotFoundError(f"{bundle}: {what}; expected a bundle that `mecha models export` wrote")
    try:
        stream = bundle.open("rb")
    except OSError as error:
        raise disk_error(error, bundle, "read") from error
    with stream:
        yield stream


def _selected(models: tuple[BundledModel, ...], names: Iterable[str], where: str) -> tuple[BundledModel, ...]:
    by_name = {model.name: model for model in models}
    for name in names:
        if name not in by_name:
            raise NotFoundError(
                f'{where}: no model "{name}" in the bundle{did_you_mean(name, by_name)}',
                hint=f"It holds {', '.join(sorted(by_name))}.",
            )
    wanted = set(names) or by_name.keys()
    return tuple(model for model in models if model.name in wanted)


def _blobs(model: BundledModel) -> set[str]:
    """Return what a pull looks for in the cache."""
    return {model.fp32.sha256, *(item.sha256 for item in model.locked)}


def _has_verdict(model: BundledModel) -> bool:
    """Tell whether the bundle says what INT8 of a model came to."""
    return model.manifest.int8.state in ("built", "rejected")


def _laid_out(model: BundledModel, files: Mapping[str, Path], folder: Path) -> PublishedModel | None:
    """Put the INT8 of a model together as a build of the cache is; None where the bundle has none.

    Raises:
        IntegrityError: its config.json is none.
    """
    if not _has_verdict(model):
        return None
    try:
        spec = ModelSpec.model_validate_json(files[model.files[SPEC_FILE].sha256].read_bytes(), strict=True)
    except ValidationError as error:
        raise IntegrityError(f"{model.name}: {SPEC_FILE} of the bundle cannot be used", hint=AGAIN) from error
    build = folder / f"build-{model.name}"
    make_dir(build)
    for name in (INT8_FILE, *REPORT_FILES):
        if name in model.files:
            link_or_copy(files[model.files[name].sha256], build / name, may_link=True)
    # A build knows neither what it was chosen for nor what was measured later.
    record = model.manifest.int8.model_copy(update={"chosen": None, "accuracy": None})
    write_file(build / RECORD_FILE, serialised(record))
    if model.manifest.tuned is not None and holds_here(model.manifest.tuned):
        write_file(build / TUNED_FILE, serialised(model.manifest.tuned))
    return PublishedModel(model.name, build, model.manifest, spec)


def _as_it_was(plan: Plan) -> ImportedModel:
    assert plan.done is not None  # noqa: S101 - asked for such plans only
    return ImportedModel(plan.done, "unchanged")


def _why_not(model: BundledModel, record: Int8Record) -> str:
    """Say why the INT8 of a bundle is not the one that is published now."""
    manifest = model.manifest
    if manifest.int8.state != "built":
        return ""
    theirs = f"{manifest.device.get('cpu')} with onnxruntime {manifest.tools.get('onnxruntime')}"
    ours = f"{cpu_features().key()} with onnxruntime {tool_versions().get('onnxruntime')}"
    made = f"for {theirs}, this is {ours}"
    if theirs == ours:
        made = "with other options than the catalog here names, or by another version of mecha"
    return f"INT8 of the bundle was made {made}: {'built again here' if record.state == 'built' else 'not kept'}"
