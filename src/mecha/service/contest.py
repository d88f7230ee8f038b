"""Whether a new build may take the place of the one that is published."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mecha.service.job import SCENES_SEED, BuildJob, Rival
from mecha.store.manifest import ChangeRecord, Int8Record
from mecha.store.published import INT8_FILE

if TYPE_CHECKING:
    from mecha.quantize.frames import FrameSet

# A camera sees night, fog and empty halls, and a build made on those alone is blind in daylight. So a new build must
# not be much worse on built-in scenes either, which neither it nor the frames of its gate come from. Measured there,
# against the build made on scenes (yolov8n, yolo11n, yolov5n): 64 frames of traffic +0.05, -0.02, +0.04; the same
# frames darkened to 3 % +0.02, -0.23, -0.36. In daylight those last ones found what FP32 finds with F1 0.89, 0.81 and
# 0.38, the builds made on scenes with 0.93 and more.
MOST_LOST_ON_SCENES = 0.1
_SCENES = 32
# No pull calibrates or gates on these.
_FIRST_SCENE = 10_000


def contested(job: BuildJob, record: Int8Record, beat: Rival, frames: "FrameSet") -> Int8Record:
    """Return the record of a build as it is where it may take the place of `beat`, else as rejected, with the reason.

    Args:
        frames: of the gate; neither of the two was calibrated on them.

    Raises:
        MechaError: the FP32 file cannot be run.
    """
    if record.state != "built" or record.gate is None:
        verdict, reason = (record.gate.verdict, record.gate.reason) if record.gate else ("missing", record.message)
        return _kept(record, f"{record.method} is {verdict}: {reason}")
    if record.gate.verdict == "slower" and beat.verdict == "faster":
        return _kept(record, record.gate.reason)
    from mecha.gate.contest import contest
    from mecha.quantize.frames import built_in_scenes

    rivals = [job.out_dir / INT8_FILE, beat.file]
    new, old = contest(job.fp32, rivals, job.spec, frames, threads=job.threads)
    if not new.by_detections:
        return _kept(record, "FP32 finds too little on these frames to tell which agrees better")
    figures = f"agreement {new.agreement:.3f} against {old.agreement:.3f}"
    if new.agreement <= old.agreement:
        return _kept(record, figures)
    size = (job.spec.input.height, job.spec.input.width)
    scenes = replace(built_in_scenes(_SCENES, seed=SCENES_SEED, size=size), first=_FIRST_SCENE)
    new_there, old_there = contest(job.fp32, rivals, job.spec, scenes, threads=job.threads)
    if new_there.agreement < old_there.agreement - MOST_LOST_ON_SCENES:
        there = f"{new_there.agreement:.3f} against {old_there.agreement:.3f} on built-in scenes"
        return _kept(record, f"{figures}, but {there}")
    return record.model_copy(update={"message": f"{record.message}; on what the device saw: {figures}"})


def compared(job: BuildJob, record: Int8Record, before: Path, frames: "FrameSet") -> Int8Record:
    """Return the record of a build with what it changes: how far it and the file `before` agree with FP32.

    Args:
        frames: of the gate.

    Raises:
        MechaError: the FP32 file cannot be run.
    """
    if record.state != "built":
        return record
    from mecha.gate.contest import contest

    old, new = contest(job.fp32, [before, job.out_dir / INT8_FILE], job.spec, frames, threads=job.threads)
    change = ChangeRecord(frames=len(frames), before=round(old.agreement, 4), after=round(new.agreement, 4))
    return record.model_copy(update={"change": change})


def _kept(record: Int8Record, why: str) -> Int8Record:
    return record.model_copy(update={"state": "rejected", "message": f"kept: {why}"})
