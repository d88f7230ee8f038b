"""The search for the range that clips a tensor best: many ranges inside its extremes, and the one that costs least."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mecha.quantize.histogram import Histogram
from mecha.quantize.ranges import Range, Scheme

# Costs of many ranges at once: (ranges,) low ends, (ranges,) high ends -> (ranges,) costs.
Cost = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

# A range keeps at least this share of the way from zero to the extreme, at either end. Below it, its steps would be as
# narrow as the histogram's bins, which cannot tell such ranges apart.
_SMALLEST_SHARE = 1 / 16
_COARSE = 25
_FINE = 13
_ALONG_ONE_END = 257


def best_range(histogram: Histogram, cost: Cost, *, scheme: Scheme) -> Range:
    """Return the range of least cost, the widest of equals.

    Both ends are tried at shares of the extremes in equal ratios: first on a coarse grid of 25 x 25, then on one of
    13 x 13 around its best, 2 % apart. Where one end is zero, and for a scheme whose scale follows from the larger end
    alone, there is one share to find, and 257 are tried, 1 % apart.

    Args:
        cost: of many ranges; called once or twice.
    """
    values, _ = histogram.values()
    if not len(values):
        return Range(histogram.low, histogram.high)
    low, high = min(float(values[0]), 0.0), max(float(values[-1]), 0.0)
    if scheme != "uniform" or low == 0.0 or high == 0.0:
        reach = max(-low, high) * np.geomspace(1, _SMALLEST_SHARE, _ALONG_ONE_END)
        return _cheapest(np.maximum(low, -reach), np.minimum(high, reach), cost)
    shares = np.geomspace(1, _SMALLEST_SHARE, _COARSE)
    coarse = _cheapest(*_pairs(low * shares, high * shares), cost)
    around = np.geomspace(shares[0] / shares[1], shares[1] / shares[0], _FINE)
    return _cheapest(*_pairs(np.maximum(low, coarse.low * around), np.minimum(high, coarse.high * around)), cost)


def _pairs(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.repeat(lows, len(highs)), np.tile(highs, len(lows))


def _cheapest(lows: NDArray[np.float64], highs: NDArray[np.float64], cost: Cost) -> Range:
    best = int(np.argmin(cost(lows, highs)))
    return Range(float(lows[best]), float(highs[best]))
