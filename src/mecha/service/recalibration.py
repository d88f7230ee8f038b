"""Building INT8 again from frames that a device really saw, in the place of a build that agrees less with FP32."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import QuantizationError
from mecha.progress import Progress, silent
from mecha.service.build import run_build
from mecha.service.build_report import REPORT_FILES
from mecha.service.collection import at_work
from mecha.service.job import BuildJob, Rival
from mecha.service.publication import Place, publish
from mecha.service.request import int8_key
from mecha.store.digests import folder_records
from mecha.store.locks import exclusive
from mecha.store.manifest import Int8Record
from mecha.store.published import INT8_FILE, MODEL_FILE, PublishedModel
from mecha.store.spec import serialised
from mecha.store.staged import write_staged

FEWEST_FRAMES = 16
# The gate gets the others.
_CALIBRATED_SHARE = 0.75
_RECORD_FILE = "record.json"


@dataclass(frozen=True, slots=True)
class RecalibrationReport:
    """What building again came to.

    Attributes:
        published: the new build is in its place.
        message: one line: how far the new and the old one agree with FP32, or why the old one stays.
    """

    published: bool
    message: str


class Recalibration:
    """Builds INT8 of a published model again; whatever goes wrong, what is published stays as it is.

    Args:
        place: where the model is; its cache must be able to give the published FP32.
        entry: says how INT8 of the model is made.
    """

    def __init__(self, place: Place, entry: ModelCatalogEntry, progress: Progress = silent) -> None:
        self._place, self._entry, self._progress = place, entry, progress

    def run(self, frames: Path, seen_by: str) -> RecalibrationReport:
        """Build, gate, compare, and publish what agrees better.

        A quarter of the frames is kept from calibration, for the gate and the comparison.

        Args:
            frames: a folder of at least FEWEST_FRAMES pictures.
            seen_by: who saw them, for people: the name of a node.

        Raises:
            BusyError: somebody else is making this model.
            NotFoundError: the model is gone.
            QuantizationError: there is no provisional INT8 to replace, or the build could not be made.
            MechaError: the frames cannot be read, or the disk is full.
        """
        store, name = self._place.store, self._entry.name
        doing = f"INT8 build of {name} from what {seen_by} saw"
        busy = at_work(self._place.project, self._place.cache)
        with busy, exclusive(store.lock_file(name), timeout_s=0, doing=doing):
            published = store.require(name)
            beat = _rival(published)
            fp32_sha256 = published.manifest.files[MODEL_FILE].sha256
            digest = _digest(frames)
            key = int8_key(self._entry, fp32_sha256, self._entry.quantize, digest)
            with self._place.cache.build_staging(key) as staged:
                record = run_build(
                    self._job(published, beat, staged, key, frames, seen_by),
                    self._place.project.settings.quantize,
                    self._progress,
                )
                if record.state != "built":
                    return RecalibrationReport(published=False, message=record.message)
                now = store.published(name)
                if now is None or now.manifest != published.manifest:
                    return RecalibrationReport(published=False, message="kept: the model was changed meanwhile")
                record = _seen(record, digest)
                for leftover in staged.iterdir():
                    if leftover.name not in (INT8_FILE, *REPORT_FILES):
                        leftover.unlink()
                write_staged(staged / _RECORD_FILE, serialised(record))
                self._place.cache.adopt_build(staged, key)
            publish(self._place, published.spec, fp32_sha256, published.manifest.origin, record)
            if published.manifest.tuned is not None:
                store.remember(name, published.manifest.tuned)
        return RecalibrationReport(published=True, message=record.message)

    def _job(
        self, published: PublishedModel, beat: Rival, staged: Path, key: str, frames: Path, seen_by: str
    ) -> BuildJob:
        from mecha.detect.session import default_threads

        return BuildJob(
            fp32=published.fp32_path,
            out_dir=staged,
            spec=published.spec,
            quantize=self._entry.quantize,
            key=key,
            calibration=(frames,),
            calibration_origin=f"what {seen_by} saw",
            samples=int(len(list(frames.iterdir())) * _CALIBRATED_SHARE),
            threads=default_threads(),
            beat=beat,
        )


def is_provisional(published: PublishedModel) -> bool:
    """Tell whether frames can make the INT8 of a model better: it was calibrated, on built-in scenes only."""
    int8 = published.manifest.int8
    calibrated = int8.calibration is not None and not int8.method.startswith("dynamic_int8")
    return published.int8_path is not None and calibrated and bool(int8.calibration and int8.calibration.provisional)


def _rival(published: PublishedModel) -> Rival:
    file, gate = published.int8_path, published.manifest.int8.gate
    if file is None or not is_provisional(published):
        raise QuantizationError(f"{published.name}: got an INT8 that is not provisional; expected one built on scenes")
    return Rival(file=file, verdict=gate.verdict if gate is not None else "")


def _seen(record: Int8Record, digest: str) -> Int8Record:
    if record.calibration is None:
        return record
    return record.model_copy(update={"calibration": record.calibration.model_copy(update={"seen_digest": digest})})


def _digest(frames: Path) -> str:
    """Return a digest of the contents of a folder."""
    records = folder_records(frames)
    return sha256(" ".join(["seen", *(record.sha256 for record in records.values())]).encode()).hexdigest()
