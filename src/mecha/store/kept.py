"""What a model was before it was updated: kept beside it, to go back to.

    models/.<name>.rollback/     the model as it was: its manifest, its small files, and its ONNX files where they can
                                 be links; the cache or the network has them otherwise
    models/.<name>.switch/       the same while another version is being published, and switch.json: which one, and
                                 what mecha.lock says from then on

The publication decides. A process that dies before it leaves the old model and a `.switch` that is thrown away; one
that dies after it leaves the new model and a `.switch` that the next one carries out (`settle`).
"""

import os
import shutil
from pathlib import Path

from pydantic import ValidationError

from mecha.store.atomic import discard, fsync_tree, replace_dir, write_file
from mecha.store.digests import file_record
from mecha.store.faults import disk_error
from mecha.store.lockfile import LockFile
from mecha.store.manifest import Manifest, sealed
from mecha.store.models import ModelStore
from mecha.store.pins import LockedFile
from mecha.store.published import LABELS_FILE, MANIFEST_FILE, MODEL_FILE, SPEC_FILE, PublishedModel
from mecha.store.spec import Frozen, serialised

_SWITCH_FILE = "switch.json"
# A person may have edited them, and means it.
_EDITABLE = (SPEC_FILE, LABELS_FILE)
# Without hard links, only what costs next to nothing is kept twice.
_COPIED_BYTES = 4_000_000


class _Identity(Frozen):
    """Which publication of a model a manifest is of, whatever is measured and noted in it later."""

    created: str
    fp32_sha256: str
    int8_key: str
    int8_state: str

    @classmethod
    def of(cls, manifest: Manifest) -> "_Identity":
        """Return the identity of a publication."""
        int8 = manifest.int8
        return cls(
            created=manifest.created,
            fp32_sha256=manifest.files[MODEL_FILE].sha256,
            int8_key=int8.key,
            int8_state=int8.state,
        )


class _Switch(Frozen):
    published: _Identity
    pins: tuple[LockedFile, ...]


class KeptModels:
    """The versions of a store's models from before their updates. Writers hold the lock of the model."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def folder(self, name: str) -> Path:
        """Return where the version before is kept; it may not exist."""
        return self._store.models_dir / f".{name}.rollback"

    def find(self, name: str) -> Manifest | None:
        """Return the manifest of the version before, None where there is none that can be read."""
        return _manifest_in(self.folder(name), name)

    def prepare(self, old: PublishedModel | None, pins: tuple[LockedFile, ...], new: Manifest, *, name: str) -> None:
        """Note that `new` is about to be published in the place of `old`.

        Args:
            old: None where nothing is published that could be kept.
            pins: what mecha.lock says of the files of `old`.

        Raises:
            DiskError: nothing was changed.
        """
        with self._store.staging(name) as staged:
            if old is not None:
                manifest = _keep_files(old, staged).model_copy(update={"pins": pins})
                write_file(staged / MANIFEST_FILE, sealed(manifest))
            write_file(staged / _SWITCH_FILE, serialised(_Switch(published=_Identity.of(new), pins=new.pins)))
            fsync_tree(staged)
            replace_dir(staged, self._switch(name))

    def unsettled(self, name: str) -> bool:
        """Tell whether a switch to another version was cut off, or is under way."""
        return self._switch(name).is_dir()

    def settle(self, name: str, lock_file: LockFile) -> None:
        """Carry out what a publication decided: mecha.lock says what is published, and what was before it is kept.

        Raises:
            ConfigError, DiskError, BusyError: as `LockFile.put`; the next call tries again.
        """
        folder = self._switch(name)
        if not folder.is_dir():
            return
        try:
            switch = _Switch.model_validate_json((folder / _SWITCH_FILE).read_bytes())
        except (OSError, ValidationError):
            switch = None
        published = self._store.published(name)
        if switch is None or published is None or _Identity.of(published.manifest) != switch.published:
            discard(folder)
            return
        lock_file.put_all(switch.pins)
        if (folder / MANIFEST_FILE).is_file():
            replace_dir(folder, self.folder(name))
        else:
            discard(self.folder(name))
            discard(folder)

    def forget(self, name: str) -> None:
        """Remove what is kept of a model. Raises DiskError when it cannot be removed."""
        discard(self._switch(name))
        discard(self.folder(name))

    def _switch(self, name: str) -> Path:
        return self._store.models_dir / f".{name}.switch"


def _manifest_in(folder: Path, name: str) -> Manifest | None:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.name == name and MODEL_FILE in manifest.files else None


def _keep_files(old: PublishedModel, folder: Path) -> Manifest:
    """Put the files of a model into a folder as far as that costs no space, and return their manifest."""
    files = dict(old.manifest.files)
    for filename in old.manifest.files:
        source, target = old.path / filename, folder / filename
        if not source.is_file():
            continue
        try:
            _link_or_copy_small(source, target)
        except OSError as error:
            raise disk_error(error, target, "write") from error
        if filename in _EDITABLE:
            files[filename] = file_record(target)
    return old.manifest.model_copy(update={"files": files})


def _link_or_copy_small(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        if source.stat().st_size <= _COPIED_BYTES:
            shutil.copyfile(source, target)
