"""An INT8 file that was made elsewhere: measured against the published FP32, and published beside it if it is right.

It is kept as a build is, under a key of its own: FP32, the file, onnxruntime and CPU. As long as the key holds, a pull
lets it stand and builds nothing. Where onnxruntime or the CPU is another one, a pull measures it again.
"""

from contextlib import suppress
from pathlib import Path

from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import ConfigError, NotFoundError, QuantizationError, UnsupportedModelError
from mecha.progress import Progress
from mecha.quantize.key import build_key
from mecha.service.build import run_build
from mecha.service.build_report import REPORT_FILES
from mecha.service.calibration import Calibration, chosen_calibration, resolve_calibration
from mecha.service.candidate import ADOPTED
from mecha.service.collection import at_work
from mecha.service.fetch import Fetcher
from mecha.service.job import BuildJob, Candidate
from mecha.service.local import copied
from mecha.service.publication import RECORD_FILE, Place, publish
from mecha.service.report import AdoptionReport
from mecha.service.tuning import TUNED_FILE, holding
from mecha.service.turn import turn
from mecha.store.digests import sha256_of
from mecha.store.manifest import ChosenCalibration, Int8Record
from mecha.store.published import INT8_FILE, MODEL_FILE, PublishedModel
from mecha.store.spec import ModelSpec, serialised
from mecha.store.staged import write_staged

_LOCK_TIMEOUT_S = 60.0


class Adoption:
    """Measures INT8 files for one model.

    Args:
        entry: what the frames of the gate and `max_accuracy_drop` come from.
    """

    def __init__(self, place: Place, entry: ModelCatalogEntry, fetcher: Fetcher, progress: Progress) -> None:
        self._place, self._entry, self._fetcher, self._progress = place, entry, fetcher, progress

    def run(self, file: Path) -> AdoptionReport:
        """Measure a file, and publish it where it is right; otherwise what is published is not touched.

        Raises:
            NotFoundError: there is no such file, or the model is not pulled.
            UnsupportedModelError: the model has no FP32.
            QuantizationError: the file is no INT8, or it could not be measured in time and memory.
            BusyError: another process works on the model.
        """
        if not file.is_file():
            raise NotFoundError(
                f"{file}: {'a folder' if file.is_dir() else 'no such file'}; expected an INT8 ONNX file"
            )
        store, name = self._place.store, self._entry.name
        store.require(name)
        doing = f"measurement of {file.name} for {name}"
        busy = at_work(self._place.project, self._place.cache)
        with busy, turn(store.lock_file(name), doing, self._progress, timeout_s=_LOCK_TIMEOUT_S):
            published = store.require(name)
            if published.quantized:
                raise UnsupportedModelError(
                    f"{name}: model.onnx is INT8 already; there is no FP32 to measure {file} against",
                    hint=f"`mecha models add {file} --name NAME` adds it as a model of its own.",
                )
            fp32 = published.manifest.files[MODEL_FILE].sha256
            record = self._measured(published, published.fp32_path, fp32, published.spec, file, str(file))
            if record.state == "built":
                published = publish(self._place, published.spec, fp32, published.manifest.origin, record)
        return _report(published, file, record)

    def standing(self, published: PublishedModel, fp32: Path, fp32_sha256: str, spec: ModelSpec) -> Int8Record | None:
        """Return the record of the INT8 that was adopted before, measured again where its key does not hold any more.

        Args:
            published: the model as it is.
            fp32: its FP32 file as it will be.

        Returns:
            None where none was adopted for this FP32, or the file is gone.

        Raises:
            MechaError: it could not be measured.
        """
        int8, recorded = published.manifest.int8, published.manifest.files
        if not is_adopted(published) or recorded[MODEL_FILE].sha256 != fp32_sha256:
            return None
        if _key(fp32_sha256, recorded[INT8_FILE].sha256) == int8.key:
            kept = self._place.cache.find_build(int8.key)
            if kept is not None:
                return Int8Record.model_validate_json((kept / RECORD_FILE).read_bytes())
        file = published.path / INT8_FILE
        if not file.is_file() or sha256_of(file) != recorded[INT8_FILE].sha256:
            return None
        return self._measured(published, fp32, fp32_sha256, spec, file, "the INT8 that was adopted")

    def _frames(self, chosen: ChosenCalibration | None) -> Calibration:
        """Return what builds of the model are calibrated on: the gate takes its frames from there."""
        root = self._place.project.root
        if chosen is not None:
            # Frames that are gone, or no frames any more, are no reason not to measure.
            with suppress(ConfigError, NotFoundError, QuantizationError):
                return chosen_calibration(chosen, root)
        return resolve_calibration(self._entry.quantize.calibration, root, self._fetcher, self._progress)

    def _measured(
        self, published: PublishedModel, fp32: Path, fp32_sha256: str, spec: ModelSpec, file: Path, name: str
    ) -> Int8Record:
        """Measure a copy of a file in a child process; where it is right, it is in the cache from then on."""
        from mecha.detect.session import default_threads

        cache, chosen = self._place.cache, published.manifest.int8.chosen
        calibration = self._frames(chosen)
        with cache.build_staging(_key(fp32_sha256, sha256_of(file))) as folder:
            copy = folder / "candidate.onnx"
            key = _key(fp32_sha256, copied(file, copy))
            job = BuildJob(
                fp32=fp32,
                out_dir=folder,
                spec=spec,
                quantize=self._entry.quantize,
                key=key,
                calibration=calibration.paths,
                calibration_origin=calibration.origin,
                samples=calibration.samples,
                threads=default_threads(),
                tuned=holding(published, fp32_sha256),
                candidate=Candidate(file=copy, name=name),
            )
            record = run_build(job, self._place.project.settings.quantize, self._progress)
            # What was chosen for builds holds for the next one.
            record = record.model_copy(update={"chosen": chosen})
            if record.state == "built":
                for leftover in folder.iterdir():
                    if leftover.name not in (INT8_FILE, TUNED_FILE, *REPORT_FILES):
                        leftover.unlink()
                write_staged(folder / RECORD_FILE, serialised(record))
                cache.adopt_build(folder, key)
            return record


def is_adopted(published: PublishedModel) -> bool:
    """Tell whether the INT8 of a model was made elsewhere."""
    int8 = published.manifest.int8
    return int8.state == "built" and int8.method == ADOPTED


def still_holds(published: PublishedModel) -> bool:
    """Tell whether the INT8 that was adopted was measured with this onnxruntime on this CPU."""
    files = published.manifest.files
    return published.manifest.int8.key == _key(files[MODEL_FILE].sha256, files[INT8_FILE].sha256)


def _key(fp32_sha256: str, int8_sha256: str) -> str:
    return build_key(fp32_sha256, ADOPTED, {"file": int8_sha256}, "")


def _report(published: PublishedModel, file: Path, record: Int8Record) -> AdoptionReport:
    gate = record.gate
    return AdoptionReport(
        name=published.name,
        path=str(published.path),
        file=str(file),
        adopted=record.state == "built",
        verdict=gate.verdict if gate else None,
        speedup=gate.speedup if gate else None,
        agreement=gate.agreement.agreement if gate and gate.agreement else None,
        message=record.message,
    )
