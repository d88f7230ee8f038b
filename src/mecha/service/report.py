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
