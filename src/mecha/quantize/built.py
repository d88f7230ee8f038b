"""What a build says of itself: the file's method, what stayed float, and what each technique gained."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gain:
    """One technique that was tried on a build.

    Attributes:
        technique: "range mse", "bias correction", "weight rounding" …
        before, after: error without it and with it, as the judge of the build defines it: lower is better.
        kept: the build has it; what made the error larger is left out.
    """

    technique: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One step of mixed precision: what is left float besides, and what that is worth.

    Attributes:
        left_float: names of the Convs added to those left float at the step before, in graph order; empty at first.
        error: with all of them float, as in Gain.
        cost_ms: milliseconds a frame that all of them cost on this device, against all of them integer.
    """

    left_float: tuple[str, ...]
    error: float
    cost_ms: float


@dataclass(frozen=True, slots=True)
class Built:
    """An INT8 file that was written.

    Attributes:
        left_float: names of the Convs that stay float, in graph order.
        notes: sentences about what is not as it should be, or was done besides.
        gains: techniques in the order they were tried; empty where nothing was.
        curve: accuracy lost against time saved, the all-integer build first; empty where nothing was left float for it.
    """

    method: str
    left_float: tuple[str, ...]
    notes: tuple[str, ...] = ()
    gains: tuple[Gain, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
