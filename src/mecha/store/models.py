"""Published models: folders of models/ that appear whole, with a manifest that was written last."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Self

from mecha.catalog.names import NAME_WORDS, is_model_name
from mecha.errors import ConfigError, DiskError, IntegrityError, NotFoundError
from mecha.project import Project
from mecha.store.atomic import (
    current_dir,
    discard,
    fsync_dir,
    fsync_tree,
    make_dir,
    previous_dir,
    replace_dir,
    sweep,
    unfinished_path,
    write_file,
)
from mecha.store.damage import Fault, faults_in, mark
from mecha.store.exchange import Exchange, exchange
from mecha.store.faults import disk_error
from mecha.store.format import NewerFormatError
from mecha.store.landing import require_ours, set_modes
from mecha.store.manifest import Manifest, TuneRecord, sealed
from mecha.store.published import (
    MANIFEST_FILE,
    MODEL_FILE,
    BrokenModel,
    PublishedModel,
    open_model,
    read_manifest,
    require_complete,
)
from mecha.words import did_you_mean

# A reader may be stopped anywhere while writers go on: absence and damage count only when several looks agree.
_LOOKS = 10


class ModelStore:
    """The models of one project.

    Writers of one model hold `exclusive(store.lock_file(name), …)`; readers need no lock.

    Args:
        models_dir: the folder; made when something is published.
        swap: how two folders change places in one step.
        pullable: gives the names that a pull knows, None where nobody can tell; for the hint at a model that is not
            there.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        swap: Exchange = exchange,
        pullable: Callable[[], Collection[str] | None] = lambda: None,
    ) -> None:
        self.models_dir = models_dir
        self._swap, self._pullable = swap, pullable

    @classmethod
    def of(cls, project: Project) -> Self:
        """Return the models of a project, whose catalogs say what could be pulled."""

        def pullable() -> Collection[str] | None:
            from mecha.catalog.catalog import pullable_names

            return pullable_names(project)

        return cls(project.models_dir, pullable=pullable)

    def find(self, name: str) -> PublishedModel | BrokenModel | None:
        """Return what is published under a name, None when nothing is."""
        found: PublishedModel | BrokenModel | None = None
        for look in range(_LOOKS):
            found = self._look(name, last=look == _LOOKS - 1)
            if isinstance(found, PublishedModel):
                return found
        return found

    def published(self, name: str) -> PublishedModel | None:
        """Return the model of a name, None when there is none that can be used."""
        found = self.find(name)
        return found if isinstance(found, PublishedModel) else None

    def require(self, name: str) -> PublishedModel:
        """Return the model of a name.

        Raises:
            NotFoundError: it was not pulled.
            IntegrityError: it cannot be used.
            NewerFormatError: a newer mecha has written it.
        """
        found = self.find(name)
        if found is None:
            raise self._not_pulled(name)
        if isinstance(found, BrokenModel):
            _refuse_newer(found)
            raise IntegrityError(
                f'model "{name}" cannot be used: {found.reason}',
                hint=f"`mecha models pull {name}` makes it whole again.",
            )
        return found

    def require_any(self, name: str) -> None:
        """Refuse a name under which nothing is published, not even what cannot be used.

        Raises:
            NotFoundError: it was not pulled.
        """
        if not is_model_name(name) or current_dir(self.models_dir / name) is None:
            raise self._not_pulled(name)

    def refuse_newer(self, name: str) -> None:
        """Refuse to put something in the place of what a newer mecha has published.

        Raises:
            NewerFormatError: it has published a model of this name.
        """
        _refuse_newer(self._look(name, last=True))

    def all(self) -> tuple[PublishedModel | BrokenModel, ...]:
        """Return every model, by name. One that is broken never hides the others.

        Raises:
            DiskError: the models folder itself cannot be read.
        """
        try:
            names = {_model_of(entry.name) for entry in self.models_dir.iterdir() if entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise disk_error(error, self.models_dir, "list the models") from error
        found = (self.find(name) for name in sorted(names) if name)
        return tuple(model for model in found if model is not None)

    def read(self, name: str, filename: str) -> bytes:
        """Return the content of a published file, as its manifest has it, while other processes publish.

        Raises:
            NotFoundError: the model was not pulled, or has no such file.
            IntegrityError: the content is not what the manifest says.
        """
        for _ in range(_LOOKS):
            model = self.require(name)
            record = model.manifest.files.get(filename)
            if record is None:
                raise NotFoundError(f'model "{name}" has no {filename}')
            try:
                content = (model.path / filename).read_bytes()
            except OSError:
                continue  # replaced between the two reads, or gone: then the next looks say the same
            if sha256(content).hexdigest() == record.sha256:
                return content
        mark(model.path, (filename,))
        raise IntegrityError(
            f"{self.models_dir / name / filename}: the content is not what {MANIFEST_FILE} says",
            hint=f"`mecha models verify {name}` tells more; `mecha models pull {name}` makes it whole again.",
        )

    def lock_file(self, name: str) -> Path:
        """Return the file that writers of a model lock. Raises NotFoundError when no model can have this name."""
        return self.models_dir / f".{_checked(name)}.lock"

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """Give a new folder to put a model together in, in the file system of the models; removed unless published.

        Raises:
            DiskError: it cannot be made.
            NotFoundError: no model can have this name.
            NewerFormatError: what is there is of a newer mecha.
        """
        self.refuse_newer(_checked(name))
        sweep(self.models_dir)
        folder = unfinished_path(self.models_dir / _checked(name), "staging")
        make_dir(folder)
        try:
            yield folder
        finally:
            discard(folder)

    def publish(self, name: str, staged: Path, manifest: Manifest) -> PublishedModel:
        """Put a finished folder in the place of the model of this name; whatever was there before goes.

        Raises:
            DiskError: what was published before still is.
        """
        final = self.models_dir / _checked(name)
        require_complete(name, staged, manifest)
        require_ours(final)
        set_modes(staged)
        fsync_tree(staged)
        ordered = manifest.model_copy(update={"files": dict(sorted(manifest.files.items()))})
        write_file(staged / MANIFEST_FILE, sealed(ordered))
        # Read before: another process may remove it as soon as it is there.
        published = replace(open_model(staged, name, as_is=True), path=final)
        replace_dir(staged, final, swap=self._swap)
        sweep(self.models_dir)
        return published

    def remember(self, name: str, tuned: TuneRecord) -> PublishedModel:
        """Write what a tune found into the manifest of a model; its files stay as they are.

        Raises:
            NotFoundError: it was not pulled.
            DiskError: the manifest is as it was.
        """
        model = self.require(name)
        write_file(model.path / MANIFEST_FILE, sealed(model.manifest.model_copy(update={"tuned": tuned})))
        return self.require(name)

    def remove(self, name: str) -> None:
        """Remove a model, broken ones too.

        Raises:
            NotFoundError: there is none.
            DiskError: it is still there.
        """
        self.require_any(name)
        # In this order: without the model, what it was before would count.
        discard(previous_dir(self.models_dir / name))
        discard(self.models_dir / name)
        fsync_dir(self.models_dir)

    def verify(self, name: str) -> tuple[Fault, ...]:
        """Read every file of a model again and return those that are not what the manifest says.

        What was found is noted for the next pull, where the disk can be written.

        Raises:
            NotFoundError: it was not pulled.
            IntegrityError: the manifest itself cannot be used.
        """
        faults: tuple[Fault, ...] = ()
        for _ in range(_LOOKS):
            folder = current_dir(self.models_dir / name) if is_model_name(name) else None
            seen = _seen(folder / MANIFEST_FILE) if folder is not None else None
            content = _content(folder / MANIFEST_FILE) if folder is not None else None
            if folder is None or content is None:
                raise self._not_pulled(name)
            try:
                manifest = read_manifest(folder)
            except NewerFormatError:
                raise
            except ConfigError as error:
                raise IntegrityError(
                    f"{folder / MANIFEST_FILE}: {error}", hint=f"`mecha models pull {name}` makes it whole again."
                ) from error
            faults = faults_in(folder, manifest, content, MANIFEST_FILE)
            # Another process may have published meanwhile, in the same second the same manifest.
            if not faults or (seen is not None and _seen(folder / MANIFEST_FILE) == seen):
                mark(folder, (fault.file for fault in faults))
                break
        return faults

    def _look(self, name: str, *, last: bool) -> PublishedModel | BrokenModel | None:
        """Look once, while other processes may publish.

        A config.json that is not the one of the manifest is a sign of that; when the last look finds it still, a person
        has edited it, and means it.
        """
        try:
            folder = current_dir(self.models_dir / name) if is_model_name(name) else None
            if folder is None or not (folder / MANIFEST_FILE).is_file():
                return None
            return open_model(folder, name, as_is=last)
        except NewerFormatError as error:
            return BrokenModel(name, str(error), newer=True)
        except (ConfigError, DiskError, NotFoundError) as error:
            return BrokenModel(name, str(error))
        except OSError as error:
            file = Path(error.filename or MODEL_FILE).name
            return BrokenModel(name, f"{file}: {(error.strerror or str(error)).lower()}")

    def _not_pulled(self, name: str) -> NotFoundError:
        fault = f'model "{name}" is not pulled: {self.models_dir / name} has no {MANIFEST_FILE}'
        known = self._pullable()
        if known is None or name in known:
            return NotFoundError(fault, hint=f"`mecha models pull {name}` pulls it.")
        return NotFoundError(
            f"{fault}, and it is not in the catalog{did_you_mean(name, known)}",
            hint="`mecha models list` shows what can be pulled.",
        )


def _refuse_newer(found: PublishedModel | BrokenModel | None) -> None:
    if isinstance(found, BrokenModel) and found.newer:
        raise NewerFormatError(
            f'model "{found.name}" cannot be used: {found.reason}',
            hint=f"Upgrade mecha; or remove the model with `mecha models remove {found.name}` and pull it again.",
        )


def _seen(file: Path) -> tuple[int, int] | None:
    """Return what no other file of this name has, None when it is gone."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _model_of(entry: str) -> str:
    """Return which model a folder of models/ is about, "" for none."""
    if entry.startswith(".") and entry.endswith(".previous"):
        return entry[1 : -len(".previous")]
    return "" if entry.startswith(".") else entry


def _checked(name: str) -> str:
    if not is_model_name(name):
        raise NotFoundError(f'model "{name}" cannot exist; expected {NAME_WORDS}')
    return name
