"""The child process that makes INT8: `python -m mecha.service.build_child JOB.json`.

It is a process of its own because onnxruntime gives no memory back, because a model can crash a runtime, and because a
build must be stoppable. It runs at low priority, ends when its parent ends, and writes JSON lines to standard output.
"""

import contextlib
import errno
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.errors import DiskError, MechaError, QuantizationError
from mecha.project import cache_dir
from mecha.quantize.calibration_cache import CalibrationCache
from mecha.service.background import end_with_parent, give_way
from mecha.service.build_report import write_report
from mecha.service.candidate import adopted, require_int8, tried, worth_words
from mecha.service.contest import compared, contested
from mecha.service.job import SCENES_SEED, BuildJob, DoneLine, FaultLine, ProgressLine
from mecha.service.tuning import tune_build
from mecha.store.faults import disk_error
from mecha.store.manifest import (
    CalibrationRecord,
    CurveRecord,
    GainRecord,
    GateRecord,
    Int8Record,
    TriedRecord,
)
from mecha.store.published import INT8_FILE

if TYPE_CHECKING:
    from mecha.quantize.built import Built
    from mecha.quantize.frames import FrameSet

# A method that gains less is faster, but the next one may be faster still: on one CPU dynamic_int8 reached 1.1x where
# static_int8 reached twice that. What is right and quickest of all that was tried wins.
ENOUGH_SPEEDUP = 1.5
# What is wrong must come so much nearer to FP32, and may give up so much of what INT8 saves.
_NEARER = 0.25
_ANY_COST = 1.0


def _say(line: ProgressLine | DoneLine | FaultLine) -> None:
    sys.stdout.write(line.model_dump_json() + "\n")
    sys.stdout.flush()


def _progress(stage: str, completed: int, total: int | None) -> None:
    _say(ProgressLine(stage=stage, completed=completed, total=total))


def _frames(job: BuildJob) -> tuple["FrameSet", "FrameSet"]:
    """Return calibration frames and gate frames; they share none."""
    from mecha.quantize.frames import built_in_scenes, frames_at, photo_frames, split_frames

    if not job.calibration:
        size = (job.spec.input.height, job.spec.input.width)
        return split_frames(built_in_scenes(job.samples, seed=SCENES_SEED, size=size))
    if len(job.calibration) == 1:
        return split_frames(frames_at(job.calibration[0], job.samples))
    return split_frames(photo_frames(job.calibration, job.samples))


@dataclass(frozen=True, slots=True)
class _Attempt:
    tried: TriedRecord
    file: Path
    built: "Built | None"
    gate: GateRecord


class Escalation:
    """Builds and gates one method after the other, and remembers what each was worth."""

    def __init__(self, job: BuildJob) -> None:
        self._job = job
        self._calibration, self._gate_frames = _frames(job)
        self._cache = CalibrationCache(cache_dir(os.environ) / "calibration")
        self._tried: list[_Attempt] = []

    def run(self) -> Int8Record:
        """Return the record of the best right build, or of the rejection of all; of the candidate where one is given.

        Raises:
            QuantizationError: INT8 could not be made, or the candidate is none.
            MechaError: frames or FP32 cannot be used.
        """
        candidate = self._job.candidate
        if candidate is not None:
            require_int8(candidate)
            return self._with_memory(adopted(self._job, candidate, self._gate(candidate.file)))
        record = self._with_memory(self._escalated())
        beat = self._job.beat
        if beat is not None:
            return contested(self._job, record, beat, self._gate_frames)
        before = self._job.before
        return record if before is None else compared(self._job, record, before, self._gate_frames)

    def _escalated(self) -> Int8Record:
        quantize = self._job.quantize
        methods = ["dynamic_int8", "static_int8"] if quantize.method == "dynamic_int8" else ["static_int8"]
        if self._job.beat is not None:
            # dynamic_int8 takes nothing from frames, so other frames cannot make it better.
            methods = ["static_int8"]
        if not quantize.escalate:
            methods = methods[:1]
        for method in methods:
            gate = self._attempt(method)
            if gate.verdict == "faster" and (gate.speedup or 0.0) >= ENOUGH_SPEEDUP:
                return self._record()
        if quantize.escalate and gate.verdict == "wrong":
            self._attempt("static_int8", leave_worst_float=True)
        return self._record()

    def write_report(self, record: Int8Record) -> None:
        """Write the report of what was built beside it, compared on the frames of the gate.

        Raises:
            DiskError: it cannot be written.
        """
        job = self._job
        if record.state == "built":
            int8 = job.out_dir / INT8_FILE
            # A page with pictures lives on and is shown around; what a camera saw is nobody else's business.
            shown = job.beat is None and not job.private
            frames = self._gate_frames if shown else _frames(job.model_copy(update={"calibration": ()}))[1]
            write_report(
                job.out_dir, job.fp32, int8, frames, job.spec, record,
                threads=job.threads, progress=_progress,
            )  # fmt: skip

    def _attempt(self, method: str, *, leave_worst_float: bool = False) -> GateRecord:
        label = "static_int8 with the worst blocks float" if leave_worst_float else method
        target = self._job.out_dir / f"candidate-{len(self._tried)}.onnx"
        try:
            built = self._build(method, target, leave_worst_float=leave_worst_float)
        except QuantizationError as error:
            if not self._job.quantize.escalate or method == "static_int8":
                raise
            # The next method may do without what this one lacks; the report says why it was passed over.
            gate = GateRecord(verdict="unloadable", reason=str(error))
            self._remember(label, target, None, gate)
            return gate
        gate = self._gate(target)
        self._remember(label, target, built, gate)
        return gate

    def _gate(self, file: Path) -> GateRecord:
        from mecha.gate.verdict import run_gate

        return run_gate(
            self._job.fp32,
            file,
            self._job.spec,
            self._gate_frames,
            threads=self._job.threads,
            max_accuracy_drop=self._job.quantize.max_accuracy_drop,
            progress=_progress,
        )

    def _with_memory(self, record: Int8Record) -> Int8Record:
        """Return the record of what is right with the memory that either precision takes."""
        job = self._job
        if record.state != "built" or record.gate is None:
            return record
        from mecha.gate.footprint import measure_memory

        memory = measure_memory(job.fp32, job.out_dir / INT8_FILE, job.spec, threads=job.threads)
        return record.model_copy(update={"gate": record.gate.model_copy(update={"memory": memory})})

    def _remember(self, label: str, file: Path, built: "Built | None", gate: GateRecord) -> None:
        self._tried.append(_Attempt(tried(label, gate), file, built, gate))

    def _build(self, method: str, target: Path, *, leave_worst_float: bool) -> "Built":
        from mecha.detect.session import build_threads
        from mecha.quantize.dynamic import build_dynamic
        from mecha.quantize.options import StaticOptions
        from mecha.quantize.static import build_static

        job = self._job
        _progress("quantize", 0, None)
        if method == "dynamic_int8":
            return build_dynamic(job.fp32, target)
        config = job.quantize
        options = StaticOptions(
            range=config.range,
            z_threshold=config.z_threshold,
            exclude_nodes=config.exclude_nodes,
            truncate=config.truncate,
            scheme=config.scheme,
            equalization=config.equalization,
            rounding=config.rounding,
            bias_correction=config.bias_correction,
            mixed_precision=config.mixed_precision,
            max_accuracy_drop=config.max_accuracy_drop,
            target=config.target,
        )
        if leave_worst_float:
            options = replace(
                options,
                mixed_precision=True,
                max_accuracy_drop=config.max_accuracy_drop * _NEARER,
                largest_cost=_ANY_COST,
            )
        return build_static(
            job.fp32,
            target,
            self._calibration,
            job.spec,
            options=options,
            progress=_progress,
            threads=build_threads(),
            cache=self._cache,
        )

    def _record(self) -> Int8Record:
        job, first = self._job, self._tried[0].tried
        right = [item for item in self._tried if item.gate.verdict in ("faster", "slower")]
        origin = f"of {job.calibration_origin}" if job.calibration_origin else ""
        record = Int8Record(
            state="rejected",
            key=job.key,
            requested_method=job.quantize.method,
            tried=tuple(item.tried for item in self._tried),
            calibration=CalibrationRecord(
                description=f"{self._calibration.description} {origin}".strip(),
                frames=len(self._calibration),
                digest=self._calibration.digest,
                provisional=self._calibration.provisional,
            ),
        )
        if not right:
            last = self._tried[-1]
            message = f"INT8 not published, FP32 stays: {last.tried.method} is {last.gate.verdict}: {last.gate.reason}"
            return record.model_copy(update={"method": last.tried.method, "message": message, "gate": last.gate})
        best = max(right, key=lambda item: item.gate.speedup or 0.0)
        best.file.replace(job.out_dir / INT8_FILE)
        return record.model_copy(
            update={
                "state": "built",
                "method": best.tried.method,
                "message": _sentence(first, best.tried),
                "gate": best.gate,
                **(_told(best.built) if best.built else {}),
            }
        )


def _told(built: "Built") -> dict[str, object]:
    """Return what a build says of itself, as the record has it."""
    return {
        "left_float": built.left_float,
        "notes": built.notes,
        "gains": tuple(GainRecord(**asdict(gain)) for gain in built.gains),
        "curve": tuple(CurveRecord(**asdict(point)) for point in built.curve),
    }


def _sentence(first: TriedRecord, won: TriedRecord) -> str:
    """Say in one line what was asked for, what it was worth, and what was built."""
    worth = f"{won.speedup:.1f}x" if won.speedup else "speed unknown"
    agreement = f", agreement {won.agreement:.2f}" if won.agreement is not None else ""
    if won.method == first.method:
        return f"built {won.method}: {worth_words(won)}"
    was = f"{first.speedup:.1f}x FP32 on this CPU" if first.speedup else first.verdict
    return f"{first.method} is {was}; built {won.method} instead: {worth}{agreement}"


def main(job_file: str) -> int:
    """Make INT8 as the job file says; exit code 0 when done, 7 when the disk was the reason that it was not, else 8."""
    end_with_parent()
    give_way()
    job = BuildJob.model_validate_json(Path(job_file).read_bytes())
    try:
        escalation = Escalation(job)
        record = escalation.run()
    except MechaError as error:
        return _told_fault(error)
    except OSError as error:
        # What a library writes, into the folder for temporary files.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _told_fault(disk_error(error, Path(error.filename or tempfile.gettempdir()), "write"))
    except MemoryError:
        _say(
            FaultLine(
                message="INT8 ran out of memory", hint="close other programs, or build with fewer calibration samples"
            )
        )
        return QuantizationError.exit_code
    _say(DoneLine(record=record))
    if job.candidate is not None and record.state != "built":
        return 0
    # What does not fit on the disk costs the report, and never the build.
    with contextlib.suppress(MechaError):
        escalation.write_report(record)
    # What a provider of onnxruntime does not stand costs the tune, and never the build.
    with contextlib.suppress(MechaError, MemoryError):
        tune_build(job, record, _progress)
    return 0


def _told_fault(error: MechaError) -> int:
    _say(FaultLine.of(error))
    return error.exit_code if isinstance(error, DiskError) else QuantizationError.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
