"""What the service answers: frozen values that the command line renders and the daemon serialises."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What measuring the accuracy of a model came to.

    Attributes:
        figures: the shape of `models eval --json`.
        remembered: the manifest and the report of the model have them from now on.
        fault: why they could not be kept, empty otherwise; hint: what to do about it.
    """

    figures: dict[str, Any]
    remembered: bool = False
    fault: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull did.

    Attributes:
        changed: False when everything was there already.
        method: method of the published INT8, None when there is none.
        message: one line about INT8.
        notice: what is to be known besides, empty when nothing is.
        change: how far the INT8 from before and the new one agree with FP32, on frames that the new one was not
            calibrated on; None where no other calibration was asked for.
        int8_fault: why INT8 could not be made, None when it was made, rejected by the gate, or not wanted.
        hint: what to do about int8_fault.
    """

    name: str
    path: str
    changed: bool
    method: str | None
    verdict: str | None
    provisional: bool
    speedup: float | None
    agreement: float | None
    downloaded_bytes: int
    licence: str
    message: str = ""
    notice: str = ""
    change: tuple[float, float] | None = None
    int8_fault: str | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class AdoptionReport:
    """What became of an INT8 file that was made elsewhere.

    Attributes:
        path: folder of the model; file: the file that was given.
        adopted: it is right and published; otherwise nothing was changed.
        message: one line that says what was measured.
    """

    name: str
    path: str
    file: str
    adopted: bool
    verdict: str | None
    speedup: float | None
    agreement: float | None
    message: str


@dataclass(frozen=True, slots=True)
class PullPlan:
    """What a pull would do (`--dry-run`); repo and revision are empty for a file of this device."""

    name: str
    repo: str
    filename: str
    revision: str
    licence: str
    size_bytes: int | None
    download_bytes: int | None
    method: str | None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `models list`.

    Attributes:
        state: "available" (in the catalog, not pulled), "ready", "fp32-only" or "broken".
        fp32_bytes: None also for a model that was published in INT8 only.
        source: catalog layer, or "unlisted" for a published model that no catalog names.
    """

    name: str
    state: str
    fp32_bytes: int | None
    int8_bytes: int | None
    method: str | None
    verdict: str | None
    source: str
    licence: str
    description: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file.

    Attributes:
        revision: the commit, empty for a file of this device.
        sha256, size_bytes: None where the Hub does not say.
    """

    revision: str
    sha256: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class FileNews:
    """What a file that a model needs is today.

    Attributes:
        repo_type: "model", "dataset", or "file" for one of this device.
        requested: the revision that is asked for.
        locked: what mecha.lock says, None where it does not name it.
        newest: what the revision means today.
        changed: an update would bring it.
    """

    repo_type: str
    repo: str
    filename: str
    requested: str
    locked: Version | None
    newest: Version | None
    changed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelNews:
    """One line of `models outdated`.

    Attributes:
        state: "current", "outdated", "unknown" (the Hub could not be asked) or "broken".
        files: the model first; empty where nobody was asked.
        reason: why it is unknown or broken; hint: what to do.
        exit_code: of the reason, 0 where there is none.
    """

    name: str
    state: str
    files: tuple[FileNews, ...] = ()
    reason: str = ""
    hint: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What an update did with one model.

    Attributes:
        state: "updated"; "kept" (the version before stays, see reason); else as in ModelNews, with nothing changed.
        before, after: the model file as it was, and as it is upstream.
        files: all that was asked for.
        method, verdict, speedup: of the published INT8.
        notes: what programs that use the model have to know.
        exit_code: of the reason, 0 where there is none.
    """

    name: str
    state: str
    before: Version | None = None
    after: Version | None = None
    files: tuple[FileNews, ...] = ()
    path: str = ""
    method: str | None = None
    verdict: str | None = None
    speedup: float | None = None
    downloaded_bytes: int = 0
    message: str = ""
    notes: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class RollbackReport:
    """What going back to the version before an update came to.

    Attributes:
        before: the version that was published until now; after: the one that is from now on.
        notice: what is to be known besides, empty when nothing is.
    """

    name: str
    path: str
    before: Version | None
    after: Version
    method: str | None
    verdict: str | None
    downloaded_bytes: int = 0
    notice: str = ""
