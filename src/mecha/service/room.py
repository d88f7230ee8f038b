"""Room for a model on the disk of the project, where that is another one than the disk of the cache."""

from dataclasses import replace

from mecha.service.fetch import Check, Wanted
from mecha.service.publication import Place
from mecha.store.faults import on_one_disk, require_space

# Of FP32; what else a build needs lies in the cache.
_INT8_SHARE = 0.3


def with_room(check: Check, place: Place, wanted: Wanted) -> Check:
    """Return a check that also refuses, before the first byte, what the disk of the models has no room for.

    On the disk of the cache the fetcher looks, and one file serves both; on another one the model is a copy.
    """
    models = place.store.models_dir

    def size(size_bytes: int) -> None:
        check.size(size_bytes)
        if not on_one_disk(models, place.cache.root):
            int8_bytes = int(size_bytes * _INT8_SHARE) if wanted.extra_share else 0
            require_space(models, size_bytes, what=wanted.where, int8_bytes=int8_bytes)

    return replace(check, size=size)
