"""Publishing a model once more with something added: other contents of a few files, and another manifest."""

from collections.abc import Mapping

from mecha.errors import IntegrityError
from mecha.store.atomic import write_file
from mecha.store.blobs import link_or_copy
from mecha.store.damage import mark
from mecha.store.digests import file_record
from mecha.store.manifest import FileRecord, Manifest
from mecha.store.models import ModelStore
from mecha.store.published import LABELS_FILE, SPEC_FILE, PublishedModel

# A person may have edited them, and means it.
_EDITABLE = frozenset({SPEC_FILE, LABELS_FILE})


def revise(
    store: ModelStore, model: PublishedModel, manifest: Manifest, contents: Mapping[str, bytes]
) -> PublishedModel:
    """Put a model with another manifest in the place of the one that is there, in one step; files that stay are linked.

    The caller holds the lock of the model.

    Args:
        manifest: with the files of the one that is published.
        contents: new bytes of some of these files.

    Raises:
        IntegrityError: a file that stays is not what the manifest says.
        DiskError: what was published before still is.
    """
    with store.staging(model.name) as staged:
        records: dict[str, FileRecord] = {}
        for filename, record in manifest.files.items():
            source, target = model.path / filename, staged / filename
            if filename in contents:
                write_file(target, contents[filename])
                records[filename] = file_record(target)
                continue
            size = source.stat().st_size if source.is_file() else None
            if size != record.size_bytes and (size is None or filename not in _EDITABLE):
                raise IntegrityError(
                    f"{source}: got {'no such file' if size is None else f'{size} bytes'}; "
                    f"expected {record.size_bytes} bytes",
                    hint=f"`mecha models pull {model.name}` makes it whole again.",
                )
            link_or_copy(source, target, may_link=True)
            records[filename] = record if size == record.size_bytes else file_record(target)
        if model.suspect:
            mark(staged, manifest.files)
        return store.publish(model.name, staged, manifest.model_copy(update={"files": records}))
