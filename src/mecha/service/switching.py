"""Another version in the place of a published one: only when it passed its gate, and with mecha.lock in one step."""

from mecha.errors import QuantizationError
from mecha.service.pinning import pins_of, project_lock
from mecha.service.publication import Place, publish
from mecha.service.request import PullOptions
from mecha.store.kept import KeptModels
from mecha.store.manifest import Int8Record, Manifest, OriginRecord
from mecha.store.pins import LockedFile
from mecha.store.published import MODEL_FILE, PublishedModel
from mecha.store.spec import ModelSpec


def put(
    place: Place,
    options: PullOptions,
    spec: ModelSpec,
    fp32_sha256: str,
    origin: OriginRecord,
    record: Int8Record,
    pins: tuple[LockedFile, ...],
) -> PublishedModel:
    """Publish what a pull brought; an update keeps what was there to go back to, and writes mecha.lock only then.

    The caller holds the lock of the model.

    Raises:
        QuantizationError: of an update whose INT8 is not right, in the place of one that is.
        MechaError: as `publish`, and as the writing of mecha.lock, which the next pull makes up for.
    """
    if not options.update:
        return publish(place, spec, fp32_sha256, origin, record, pins=pins)
    old, kept = place.store.published(spec.name), KeptModels(place.store)
    _require_as_good(old, record)
    lock_file = project_lock(place.project)
    if old is not None and _is_same(old, spec, fp32_sha256, record, pins):
        # Another process was first: what it kept to go back to must not become what is published now.
        lock_file.put_all(pins)
        return old
    before = tuple(entry for entry in lock_file.entries() if entry.identity in {pin.identity for pin in pins})

    def prepare(manifest: Manifest) -> None:
        kept.prepare(old, pins_of(old, before) if old is not None else (), manifest, name=spec.name)

    published = publish(place, spec, fp32_sha256, origin, record, pins=pins, about_to=prepare)
    kept.settle(spec.name, lock_file)
    return published


def settle(place: Place, name: str, options: PullOptions) -> None:
    """Carry out an update that was cut off after its publication. The caller holds the lock of the model."""
    if not options.frozen:
        KeptModels(place.store).settle(name, project_lock(place.project))


def is_settled(place: Place, name: str, options: PullOptions) -> bool:
    """Tell whether no update was cut off, as far as this pull may change something about it."""
    return options.frozen or not KeptModels(place.store).unsettled(name)


def _is_same(
    old: PublishedModel, spec: ModelSpec, fp32_sha256: str, record: Int8Record, pins: tuple[LockedFile, ...]
) -> bool:
    """Tell whether a version is the one that is published."""
    manifest = old.manifest
    known = {pin.identity: pin.sha256 for pin in manifest.pins}
    return (
        (manifest.files[MODEL_FILE].sha256, manifest.int8.key) == (fp32_sha256, record.key)
        and (manifest.int8.state, old.spec.classes) == (record.state, spec.classes)
        and all(known.get(pin.identity, pin.sha256) == pin.sha256 for pin in pins)
    )


def _require_as_good(old: PublishedModel | None, record: Int8Record) -> None:
    if old is None or old.int8_path is None or record.state in ("built", "published", "disabled"):
        return
    gate = record.gate
    what = f"is {gate.verdict}: {gate.reason}" if gate is not None else f"could not be made: {record.message}"
    raise QuantizationError(
        f"{old.name}: INT8 of the new version {what}",
        hint=f"`mecha models pull {old.name} --force` takes the new one all the same, as FP32.",
    )
