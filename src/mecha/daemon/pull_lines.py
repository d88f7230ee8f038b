"""The lines of a pull: what `POST /api/pull` streams, and what a process that pulls tells the daemon."""

from pydantic import BaseModel

from mecha.progress import FileStage
from mecha.service.report import PullReport

_DIGITS = 12
"""Of a digest, in a status."""


class Step(BaseModel):
    """One line of a pull.

    `digest` is there while a file is transferred. `stage` is mecha's name of the step; `completed` and `total` count in
    its unit. The last line has the status "success" and the report, or it is an error.
    """

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    stage: str | None = None
    report: PullReport | None = None


def step_of(stage: str, completed: int, total: int | None) -> Step:
    """Return the line that says how far a stage is."""
    if isinstance(stage, FileStage):
        status, digest = f"pulling {stage.sha256[:_DIGITS]}", f"sha256:{stage.sha256}"
        return Step(status=status, digest=digest, total=total, completed=completed, stage=str(stage))
    return Step(status=stage, total=total, completed=completed, stage=stage)


def stage_of(step: Step) -> str:
    """Return the stage that a line says."""
    stage = step.stage or step.status
    return FileStage(stage, step.digest.removeprefix("sha256:")) if step.digest else stage
