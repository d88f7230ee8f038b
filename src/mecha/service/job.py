"""What crosses between the pull and the child process that makes INT8: the job, and the lines that come back."""

from pathlib import Path
from typing import Literal, Self

from mecha.catalog.schema import QuantizeConfig
from mecha.errors import DiskError, MechaError, NoSpaceError, QuantizationError
from mecha.store.manifest import Int8Record, TunedSession
from mecha.store.spec import Frozen, ModelSpec
from mecha.words import encodable

SCENES_SEED = 0
_Kind = Literal["int8", "disk", "space"]
# The first that fits is the kind of an error.
_KINDS: dict[_Kind, type[MechaError]] = {"space": NoSpaceError, "disk": DiskError}


class Rival(Frozen):
    """An INT8 file that a new build has to beat, and what the gate said of it on this device."""

    file: Path
    verdict: str


class Candidate(Frozen):
    """An INT8 file that was made elsewhere: measured in the place of builds.

    Attributes:
        file: where it is for the child.
        name: what the user calls it, for messages.
    """

    file: Path
    name: str


class BuildJob(Frozen):
    """Everything the child needs; written to a file, because a command line is no place for it.

    Attributes:
        key: digest of all that the build depends on.
        calibration: photos, folders of photos or a video; built-in scenes are used when there are none.
        calibration_origin: where they came from, in words.
        private: they are what a camera of this device saw: no report shows them.
        threads: threads of the sessions that the gate measures.
        tuned: how precisions are known to run fastest on this device, by name; the others are tuned after the build.
            None where nothing is to be tuned.
        before: the INT8 file whose place the build is to take; the two are compared.
        candidate: given instead of built; None where INT8 is to be made.
        beat: the build counts only where it agrees better with FP32 than this one.
    """

    fp32: Path
    out_dir: Path
    spec: ModelSpec
    quantize: QuantizeConfig
    key: str
    calibration: tuple[Path, ...] = ()
    calibration_origin: str = ""
    private: bool = False
    samples: int
    threads: int
    tuned: dict[str, TunedSession] | None = None
    before: Path | None = None
    candidate: Candidate | None = None
    beat: Rival | None = None


class ProgressLine(Frozen):
    """One line of the child's standard output while it works."""

    event: Literal["progress"] = "progress"
    stage: str
    completed: int
    total: int | None = None


class DoneLine(Frozen):
    """INT8 is built, or measured and rejected; only the report and the tune may follow."""

    event: Literal["done"] = "done"
    record: Int8Record


class FaultLine(Frozen):
    """The last line of a child that could not make INT8.

    Attributes:
        kind: "space" where the disk is full, "disk" where it refuses, "int8" for everything else.
    """

    event: Literal["fault"] = "fault"
    kind: _Kind = "int8"
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: MechaError) -> Self:
        """Return the line that tells of an error."""
        kind: _Kind = next((kind for kind, known in _KINDS.items() if isinstance(error, known)), "int8")
        return cls(kind=kind, message=encodable(str(error)), hint=encodable(error.hint))

    def error(self, otherwise: str) -> MechaError:
        """Return the error to raise; `otherwise` is the hint where the line has none."""
        return _KINDS.get(self.kind, QuantizationError)(self.message, hint=self.hint or otherwise)
