"""Making a published model whole again of which a file was damaged, with as little done again as can be.

What heals a file is said by `remedies`, and done by the next pull: FP32 from the cache or the network, INT8 from the
cache where the same build is there, and from a build where it is not.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from mecha.errors import MechaError
from mecha.service.adoption import is_adopted
from mecha.service.build_report import REPORT_FILES
from mecha.service.publication import RECORD_FILE, Place
from mecha.store.blobs import BlobCache, is_digest, is_key, link_or_copy
from mecha.store.damage import Fault
from mecha.store.manifest import Int8Record
from mecha.store.published import INT8_FILE, MANIFEST_FILE, MODEL_FILE, PublishedModel
from mecha.store.spec import serialised
from mecha.store.staged import write_staged
from mecha.words import size_words

_CACHED = "comes from the cache"


def damaged_files(place: Place, name: str) -> frozenset[str]:
    """Return which files of a model are damaged. Reads them, and only where somebody found one before.

    Raises:
        ConfigError: the model is of a newer mecha.
    """
    place.store.refuse_newer(name)
    published = place.store.published(name)
    if published is None or not published.suspect:
        return frozenset()
    with suppress(MechaError):  # removed meanwhile
        return frozenset(fault.file for fault in place.store.verify(name))
    return frozenset()


def remedies(place: Place, published: PublishedModel, faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """Return the faults, each with what the next pull does about it. Reads what the cache has of the model."""
    return tuple(replace(fault, remedy=_remedy(place.cache, published, fault.file)) for fault in faults)


def intact_int8(
    place: Place, published: PublishedModel, damaged: Collection[str], fp32_sha256: str
) -> Int8Record | None:
    """Return what the manifest says of INT8, where it can be published with FP32 again as it was.

    Its build is in the cache from then on.

    Args:
        damaged: files of the model that are not what the manifest says.
        fp32_sha256: of the FP32 that is to be published.

    Returns:
        None where FP32 is another one, or INT8 is damaged everywhere.

    Raises:
        DiskError: the cache cannot be written.
    """
    int8, files = published.manifest.int8, published.manifest.files
    if files[MODEL_FILE].sha256 != fp32_sha256 or int8.state not in ("built", "published", "disabled", "rejected"):
        return None
    if MANIFEST_FILE in damaged:
        return _cached_record(place.cache, int8)
    if int8.state != "built" or _is_cached(place.cache, published):
        return int8
    if INT8_FILE in damaged or INT8_FILE not in files:
        return None
    _put_back(place.cache, published, damaged)
    return int8


def _remedy(cache: BlobCache, published: PublishedModel, filename: str) -> str:
    record = published.manifest.files.get(filename)
    if filename == MODEL_FILE and record is not None:
        if is_digest(record.sha256) and cache.find(record.sha256) is not None:
            return _CACHED
        if published.manifest.origin.kind == "file":
            return f"is copied again from {published.manifest.origin.filename}"
        return f"is downloaded again ({size_words(record.size_bytes)})"
    if filename == INT8_FILE:
        if _is_cached(cache, published):
            return _CACHED
        return "was adopted and is lost; INT8 is built in its place" if is_adopted(published) else "is built again"
    return "is written again"


def _is_cached(cache: BlobCache, published: PublishedModel) -> bool:
    """Tell whether the cache has the very INT8 of a model."""
    record = published.manifest.files.get(INT8_FILE)
    key = published.manifest.int8.key
    if record is None or not is_key(key) or cache.find_build(key) is None:
        return False
    return cache.build_records(key).get(INT8_FILE) == record


def _cached_record(cache: BlobCache, int8: Int8Record) -> Int8Record | None:
    """Return what was noted of a build beside it, None where it is not there: the manifest is not to be believed."""
    folder = cache.find_build(int8.key) if int8.state == "built" and is_key(int8.key) else None
    return None if folder is None else Int8Record.model_validate_json((folder / RECORD_FILE).read_bytes())


def _put_back(cache: BlobCache, published: PublishedModel, damaged: Collection[str]) -> None:
    """Make what is whole of a model's INT8 a build of the cache again."""
    key = published.manifest.int8.key
    with cache.build_staging(key) as folder:
        for name in (INT8_FILE, *REPORT_FILES):
            file = published.path / name
            if name not in damaged and name in published.manifest.files and file.is_file():
                link_or_copy(file, folder / name, may_link=True)
        write_staged(folder / RECORD_FILE, serialised(published.manifest.int8))
        cache.adopt_build(folder, key)
