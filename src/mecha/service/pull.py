"""One pull: resolve, download, inspect, quantize, gate, publish, in this order and in no other place."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.catalog.schema import ModelCatalogEntry, QuantizeConfig
from mecha.errors import ConfigError, DiskError, MechaError, NotFoundError, QuantizationError
from mecha.progress import Progress
from mecha.service.adoption import Adoption, is_adopted
from mecha.service.attachment import Reached, download_of
from mecha.service.build import run_build
from mecha.service.build_report import REPORT_FILES
from mecha.service.calibration import Calibration, chosen_calibration, is_gathered, resolve_calibration
from mecha.service.collection import at_work
from mecha.service.completeness import Completeness, has_its_files
from mecha.service.fetch import Fetched, Fetcher, Wanted
from mecha.service.healing import damaged_files, intact_int8
from mecha.service.job import BuildJob
from mecha.service.licence import LicenceFirst
from mecha.service.publication import RECORD_FILE, Place
from mecha.service.report import PullReport
from mecha.service.request import PullOptions, int8_key
from mecha.service.room import with_room
from mecha.service.rows import pull_report
from mecha.service.switching import put, settle
from mecha.service.tuning import TUNED_FILE, holding
from mecha.service.turn import turn
from mecha.store.atomic import replace_dir
from mecha.store.manifest import ChosenCalibration, Int8Record, OriginRecord
from mecha.store.published import INT8_FILE, MANIFEST_FILE, MODEL_FILE, PublishedModel
from mecha.store.spec import ModelSpec, serialised
from mecha.store.staged import write_staged

if TYPE_CHECKING:
    from mecha.service.inspection import Inspected

_MODEL_LOCK_TIMEOUT_S = 24 * 3600.0
_INT8_ALREADY = Int8Record(
    state="published",
    method="published",
    message="the file is INT8 already: taken as it is, with no FP32 to measure it against",
)


class Pull:
    """One model's way from the catalog to models/<name>/."""

    def __init__(
        self, place: Place, entry: ModelCatalogEntry, fetcher: Fetcher, options: PullOptions, progress: Progress
    ) -> None:
        self._place, self._entry, self._fetcher = place, entry, fetcher
        self._options, self._progress = options, progress
        self._done = Completeness(place, entry, fetcher, options)
        self._wanted, self._quantize = self._done.wanted, self._done.quantize
        self._downloaded_bytes = 0
        self._chosen: ChosenCalibration | None = None
        self._notice = ""
        self._licence = "unknown"
        self._damaged: frozenset[str] = frozenset()

    def run(self) -> PullReport:
        """Do what is missing, and nothing else.

        Raises:
            MechaError: FP32 could not be brought; what was published before is untouched. A failure of INT8 is not
                raised: FP32 is published and the report carries the fault.
        """
        if (done := self.complete()) is not None:
            return done
        lock = self._place.store.lock_file(self._entry.name)
        doing = f"{'INT8 build' if self._options.int8_only else 'pull'} of {self._entry.name}"
        busy = at_work(self._place.project, self._place.cache)

        def others() -> Reached | None:
            return download_of(lock, self._place.cache.root)

        with busy, turn(lock, doing, self._progress, timeout_s=_MODEL_LOCK_TIMEOUT_S, watch=others):
            self._damaged = damaged_files(self._place, self._entry.name)
            settle(self._place, self._entry.name, self._options)
            return self.complete() or self._bring()

    def complete(self) -> PullReport | None:
        """Return what a run that has nothing to do would, None where there is something to do."""
        published = self._place.store.published(self._entry.name)
        return self._complete(published) if published is not None and self._done.is_whole(published) else None

    def _bring(self) -> PullReport:
        from mecha.service.inspection import inspected

        fetched = self._fetch()
        found = inspected(self._entry, fetched.path, fetched.locked, self._fetch_beside)
        spec = found.spec.model_copy(update={"licence": self._licence})
        published = self._place.store.published(spec.name)
        self._chosen = self._done.chosen_for(published)
        if published is not None and self._damaged:
            wanted = not self._options.force and not self._options.int8_only and self._done.has_int8(published)
            record = intact_int8(self._place, published, self._damaged, fetched.locked.sha256) if wanted else None
            if record is not None:
                return self._publish(fetched, spec, record)
            published = None if self._damaged & {INT8_FILE, MODEL_FILE, MANIFEST_FILE} else published
        given = self._given(found, published, fetched, spec)
        if given is not None:
            return given
        quantize = self._quantize
        if quantize is None:
            return self._publish(fetched, spec, Int8Record(state="disabled", message="INT8 is not enabled"))
        if published is None or not has_its_files(published):
            # Whatever happens to INT8, and whenever the power goes: FP32 is usable from here on.
            self._publish(fetched, spec, Int8Record(state="pending", requested_method=quantize.method))
        return self._with_int8(published, fetched, spec, quantize)

    def _with_int8(
        self, published: PublishedModel | None, fetched: Fetched, spec: ModelSpec, quantize: QuantizeConfig
    ) -> PullReport:
        """Make INT8, and publish it with FP32; what is right and published already goes for what is right only."""
        same = published is not None and published.manifest.files[MODEL_FILE].sha256 == fetched.locked.sha256
        stays = published if published is not None and same and published.int8_path is not None else None
        try:
            record = self._int8(fetched, spec, quantize)
        except DiskError:
            raise
        except MechaError as error:
            # Whatever INT8 lacks, a photo, a package, time: FP32 works without it.
            if self._options.staged is not None:
                # What was gathered goes, so nothing may be built from it later.
                self._chosen = published.manifest.int8.chosen if published else None
            failed = Int8Record(state="failed", requested_method=quantize.method, message=str(error))
            report = self._report(stays, changed=False) if stays else self._publish(fetched, spec, failed)
            return replace(report, int8_fault=str(error), hint=error.hint)
        if stays and record.state == "rejected" and self._options.int8_only:
            why = f"{record.method} is {record.gate.verdict}: {record.gate.reason}" if record.gate else record.message
            fault = f"not published, the INT8 from before stays: {why}"
            return replace(self._report(stays, changed=False), int8_fault=fault)
        if self._options.staged is not None and self._chosen is not None:
            # Before the manifest names them: whatever happens between, the next pull builds from these.
            replace_dir(self._options.staged, self._place.project.root / self._chosen.source)
        return self._publish(fetched, spec, record)

    def _given(
        self, found: "Inspected", published: PublishedModel | None, fetched: Fetched, spec: ModelSpec
    ) -> PullReport | None:
        """Publish INT8 that was made elsewhere: the file itself, or what was adopted, where that is right still.

        Returns:
            None where there is none, and INT8 is to be built.
        """
        if found.quantized:
            return self._publish(fetched, spec, _INT8_ALREADY)
        if published is None or not self._done.keeps_adopted(published):
            return self._imported(fetched, spec)
        adoption = Adoption(self._place, self._entry, self._fetcher, self._progress)
        try:
            record = adoption.standing(published, fetched.path, fetched.locked.sha256, spec)
            if record is None:
                return None
            if record.state != "built" and self._quantize is not None:
                built = self._int8(fetched, spec, self._quantize)
                record = built.model_copy(update={"message": f"{record.message}; {built.message}"})
        except DiskError:
            raise
        except MechaError as error:
            return replace(self._report(published, changed=False), int8_fault=str(error), hint=error.hint)
        return self._publish(fetched, spec, record)

    def _imported(self, fetched: Fetched, spec: ModelSpec) -> PullReport | None:
        """Publish the INT8 of a bundle where it is what would be built here: its key is of this device; None if not."""
        given = self._options.imported
        if given is None or given.manifest.files[MODEL_FILE].sha256 != fetched.locked.sha256:
            return None
        if not (self._quantize or is_adopted(given)) or not self._done.has_int8(given):
            return None
        self._place.cache.adopt_build(given.path, given.manifest.int8.key)
        self._chosen = given.manifest.int8.chosen
        return self._publish(fetched, spec, given.manifest.int8)

    def _fetch(self) -> Fetched:
        from mecha.service.inspection import onnx_check

        check = with_room(onnx_check(self._entry), self._place, self._wanted)
        said = LicenceFirst(self._entry, self._wanted, self._fetcher, self._progress)
        fetched = self._fetcher.fetch(self._wanted, said, check=check)
        self._licence = said.licence or "unknown"
        self._downloaded_bytes += fetched.downloaded_bytes
        return fetched

    def _fetch_beside(self, filename: str) -> Path:
        """Bring the label file: from the same repo, or from the folder of the model."""
        if self._wanted.file is not None:
            return self._wanted.file.parent / filename
        wanted = Wanted(repo=self._wanted.repo, filename=filename, revision=self._wanted.revision)
        fetched = self._fetcher.fetch(wanted, self._progress)
        self._downloaded_bytes += fetched.downloaded_bytes
        return fetched.path

    def _int8(self, fetched: Fetched, spec: ModelSpec, quantize: QuantizeConfig) -> Int8Record:
        """Return the record of an INT8 build, made now or found in the cache."""
        calibration = self._calibration(quantize)
        key = int8_key(self._entry, fetched.locked.sha256, quantize, calibration.digest)
        cache = self._place.cache
        lock, doing = cache.build_dir(key).with_suffix(".lock"), f"INT8 build of {spec.name}"
        with turn(lock, doing, self._progress, timeout_s=_MODEL_LOCK_TIMEOUT_S):
            kept = None if self._options.force or self._options.int8_only else cache.find_build(key)
            if kept is None:
                kept = self._build(fetched, spec, quantize, calibration, key)
        return Int8Record.model_validate_json((kept / RECORD_FILE).read_bytes())

    def _calibration(self, quantize: QuantizeConfig) -> Calibration:
        """Return what a user chose, now or for the build that is published; else what the entry names."""
        root = self._place.project.root
        if self._chosen is not None:
            try:
                found = chosen_calibration(self._chosen, root, staged=self._options.staged)
            except (ConfigError, NotFoundError, QuantizationError) as error:
                if self._options.calibration is not None:
                    raise
                self._notice = f"calibrated as the catalog says, not as chosen before: {error}"
                self._chosen = None
            else:
                self._chosen = self._chosen.model_copy(update={"digest": found.digest})
                return found
        return resolve_calibration(quantize.calibration, root, self._fetcher, self._progress)

    def _build(
        self, fetched: Fetched, spec: ModelSpec, quantize: QuantizeConfig, calibration: Calibration, key: str
    ) -> Path:
        from mecha.detect.session import default_threads

        with self._place.cache.build_staging(key) as folder:
            job = BuildJob(
                fp32=fetched.path,
                out_dir=folder,
                spec=spec,
                quantize=quantize,
                key=key,
                calibration=calibration.paths,
                calibration_origin=calibration.origin,
                private=self._chosen is not None and is_gathered(self._chosen),
                samples=calibration.samples,
                threads=default_threads(),
                before=self._before(),
                tuned=holding(self._place.store.published(spec.name), fetched.locked.sha256),
            )
            record = run_build(job, self._place.project.settings.quantize, self._progress)
            for leftover in folder.iterdir():
                if leftover.name not in (INT8_FILE, TUNED_FILE, *REPORT_FILES):
                    leftover.unlink()
            write_staged(folder / RECORD_FILE, serialised(record))
            return self._place.cache.adopt_build(folder, key)

    def _before(self) -> Path | None:
        """Return the INT8 whose place a build from other frames is to take."""
        published = self._place.store.published(self._entry.name)
        return published.int8_path if published is not None and self._options.calibration is not None else None

    def _publish(self, fetched: Fetched, spec: ModelSpec, record: Int8Record) -> PullReport:
        locked = fetched.locked
        origin = OriginRecord(
            repo=locked.repo,
            filename=locked.filename,
            revision=locked.revision,
            requested_revision=locked.requested,
            etag=locked.etag,
            kind="hub" if self._wanted.file is None else "file",
        )
        record = record.model_copy(update={"chosen": self._chosen})
        pins = self._fetcher.used
        published = put(self._place, self._options, spec, locked.sha256, origin, record, pins)
        report = self._report(published, changed=True)
        return replace(report, notice=self._notice)

    def _complete(self, published: PublishedModel) -> PullReport:
        report = self._report(published, changed=False)
        if not self._fetcher.differs(self._wanted):
            return replace(report, notice=report.message) if published.quantized else report
        return replace(
            report,
            notice=f"{self._wanted.where} is another file now; "
            f"`mecha models pull {published.name} --force` takes it as it is",
        )

    def _report(self, published: PublishedModel, *, changed: bool) -> PullReport:
        calibrated = self._options.calibration is not None
        return pull_report(published, changed=changed, calibrated=calibrated, downloaded_bytes=self._downloaded_bytes)
