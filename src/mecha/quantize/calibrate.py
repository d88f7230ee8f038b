"""From what calibration saw to the range of each tensor."""

import numpy as np
from numpy.typing import NDArray

from mecha.errors import ConfigError
from mecha.quantize.calibration_cache import CalibrationCache, calibration_key
from mecha.quantize.histogram import Histogram
from mecha.quantize.observe import Inputs, Observed, Tensor, observe
from mecha.quantize.ranges import (
    HISTOGRAM_METHODS,
    PERCENTILE,
    Range,
    Scheme,
    extremes,
    mean_extremes,
    most_frames,
    percentile_range,
)
from mecha.quantize.ranges_by_entropy import range_by_entropy
from mecha.quantize.ranges_by_error import range_by_error

__all__ = [
    "CalibrationCache",
    "Histogram",
    "Inputs",
    "Observed",
    "Tensor",
    "calibration_key",
    "observe",
    "range_of",
]


def range_of(
    observed: Observed,
    tensor: str,
    method: str,
    *,
    scheme: Scheme = "uniform",
    z_threshold: float | None = None,
    floor: float | None = None,
    percentile: float = PERCENTILE,
) -> Range:
    """Return the range of a tensor by one method, never wider than what was seen.

    Args:
        observed: with histograms, where the method looks at them.
        tensor: one of those observed.
        method: "most_frames", "minmax", "mean_minmax", "percentile", "mse", "mae" or "entropy".
        scheme: form of the scale that the range will get; "mse", "mae" and "entropy" measure with it.
        z_threshold: leave out first what lies farther from the mean than so many standard deviations: of the frames'
            extremes, or of the values in the histogram. None leaves out nothing.
        floor: values below it may become it, for nothing that reads the tensor tells them apart; the range does not go
            below it, and clipping to it is no error. None where every value counts.
        percentile: of "percentile", 50 to 100: the share of values below the upper end, and above the lower one.

    Raises:
        ConfigError: z_threshold is not above zero.
    """
    if z_threshold is not None and not z_threshold > 0:
        raise ConfigError(f"z_threshold: got {z_threshold:g}; expected a number above 0")
    at = observed.tensors.index(tensor)
    lows, highs = observed.lows[:, at], observed.highs[:, at]
    if method in HISTOGRAM_METHODS:
        histogram = observed.histograms[tensor]
        histogram = histogram if z_threshold is None else histogram.within(z_threshold)
        found = _by_histogram(histogram if floor is None else histogram.raised(floor), method, scheme, percentile)
        # The bins reach a little beyond what was seen.
        seen = extremes(lows, highs)
        found = Range(min(max(found.low, seen.low), seen.high), max(min(found.high, seen.high), seen.low))
    else:
        choose = {"most_frames": most_frames, "mean_minmax": mean_extremes, "minmax": extremes}[method]
        found = choose(_within(lows, z_threshold), _within(highs, z_threshold))
    if floor is None:
        return found
    return Range(max(found.low, floor), max(found.high, floor))


def _by_histogram(histogram: Histogram, method: str, scheme: Scheme, percentile: float) -> Range:
    match method:
        case "mse":
            return range_by_error(histogram, power=2, scheme=scheme)
        case "mae":
            return range_by_error(histogram, power=1, scheme=scheme)
        case "entropy":
            return range_by_entropy(histogram, scheme=scheme)
        case _:
            return percentile_range(histogram, percentile=percentile)


def _within(values: NDArray[np.float64], z_threshold: float | None) -> NDArray[np.float64]:
    """The values no farther from their mean than so many standard deviations; all of them where none is."""
    if z_threshold is None:
        return values
    near = np.abs(values - values.mean()) <= z_threshold * values.std()
    return values[near] if near.any() else values
