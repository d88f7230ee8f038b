"""How often a tensor takes which values: counts in equal bins, the centre of one being exactly zero."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 2048
# float32 tells apart values this share of themselves apart; narrower bins would only count rounding.
_FLOAT32_SHARE = 2.0**-23
_NARROWEST = 1e-30


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """The values of one tensor.

    Attributes:
        counts: (bins,) int64, values seen in each of equal bins.
        low, high: outer edges of the first and the last bin, low < high.
    """

    counts: NDArray[np.int64]
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of one bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def centres(self) -> NDArray[np.float64]:
        """(bins,) the values that stand for what was counted in the bins."""
        return self.low + (np.arange(len(self.counts), dtype=np.float64) + 0.5) * np.float64(self.width)

    def values(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the centres of the bins that are not empty, ascending, and their counts."""
        filled = np.flatnonzero(self.counts)
        return self.centres[filled], self.counts[filled]

    def within(self, z_threshold: float) -> "Histogram":
        """Return it without what lies farther than `z_threshold` standard deviations from the mean of all values.

        Where nothing would be left, everything is.
        """
        values, counts = self.values()
        if not len(values):
            return self
        mean = np.average(values, weights=counts)
        reach = z_threshold * math.sqrt(np.average(np.square(values - mean), weights=counts))
        kept = np.flatnonzero(np.abs(self.centres - mean) <= reach)
        if not len(kept) or not self.counts[kept].any():
            return self
        first, last = int(kept[0]), int(kept[-1])
        low = self.low + first * self.width
        return Histogram(self.counts[first : last + 1], low, low + (last + 1 - first) * self.width)

    def raised(self, floor: float) -> "Histogram":
        """Return it with all that lies below `floor` counted as if it were there."""
        first = min(math.floor((floor - self.low) / self.width), len(self.counts) - 1)
        if first <= 0:
            return self
        counts = self.counts[first:].copy()
        counts[0] += self.counts[:first].sum()
        return Histogram(counts, self.low + first * self.width, self.high)


class Counter:
    """Counts the values of one tensor, call by call, into bins laid over the extremes it is known to have.

    Zero falls into the middle of a bin: it is by far the most frequent value after a Relu, and its bin then stands for
    it without error.

    Args:
        low, high: the smallest and the largest value, finite. Values beyond are counted in the outermost bins.
    """

    def __init__(self, low: float, high: float) -> None:
        # One bin more than the span needs, because the bins are moved by up to half of one for the sake of zero.
        widest = max(abs(low), abs(high)) * _FLOAT32_SHARE
        self._width = max((high - low) / (BINS - 2), widest, _NARROWEST)
        self._low = (round(low / self._width) - 0.5) * self._width
        self._counts = np.zeros(BINS, dtype=np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape."""
        # The edge is taken off before the division: far from zero, a quotient in float32 would miss its bin.
        places = np.subtract(values, np.float32(self._low), dtype=np.float32)
        places /= np.float32(self._width)
        np.clip(places, 0, BINS - 1, out=places)
        self._counts += np.bincount(places.astype(np.intp).ravel(), minlength=BINS)

    def histogram(self) -> Histogram:
        """Return what was counted so far."""
        return Histogram(self._counts.copy(), self._low, self._low + BINS * self._width)
