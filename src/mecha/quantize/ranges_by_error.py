"""The range whose rounding and clipping change the values of a tensor least."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mecha.quantize.clipping import best_range
from mecha.quantize.histogram import Histogram
from mecha.quantize.ranges import LEVELS, Range, Scheme, uint8_steps

Power = Literal[1, 2]

# Ranges compared at once: their errors on all bins stay in the processor's cache.
_AT_ONCE = 32


def range_by_error(histogram: Histogram, *, power: Power, scheme: Scheme) -> Range:
    """Return the range with the least sum of |value - its integer's value| ** power over the counted values.

    Args:
        power: 2 for the mean square error (mse), 1 for the mean absolute error (mae).
        scheme: form of the scale that the range will get.
    """
    values, counts = histogram.values()
    weights = counts.astype(np.float64)

    def cost(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> NDArray[np.float64]:
        return rounding_errors(values, weights, lows, highs, power=power, scheme=scheme)

    return best_range(histogram, cost, scheme=scheme)


def rounding_errors(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    *,
    power: Power,
    scheme: Scheme,
) -> NDArray[np.float64]:
    """Return, for each range, the sum of weight * |value - its integer's value| ** power.

    Args:
        values, weights: (values,) each, any order.
        lows, highs: (ranges,) each.
    """
    scales, zero_points = uint8_steps(lows, highs, scheme=scheme)
    errors = np.empty(len(lows))
    for start in range(0, len(lows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        scale, zero = scales[part, None].astype(np.float64), zero_points[part, None]
        change = np.rint(values / scale)
        np.clip(change, -zero, LEVELS - zero, out=change)
        change *= scale
        change -= values
        np.square(change, out=change) if power == 2 else np.abs(change, out=change)  # noqa: PLR2004
        errors[part] = change @ weights
    return errors
