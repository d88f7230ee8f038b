"""The range after which the distribution of a tensor's values is most like what it was."""

import numpy as np
from numpy.typing import NDArray

from mecha.quantize.clipping import best_range
from mecha.quantize.histogram import Histogram
from mecha.quantize.ranges import LEVELS, Range, Scheme, uint8_steps

_AT_ONCE = 32


def range_by_entropy(histogram: Histogram, *, scheme: Scheme) -> Range:
    """Return the range of least Kullback-Leibler divergence between the values before and after quantization.

    The method is that of S. Migacz, "8-bit Inference with TensorRT" (GPU Technology Conference 2017): the reference
    distribution P is the histogram inside the range, with all that is clipped added to its outermost bins; Q has the
    same bins, without what is clipped, and in each of them an equal share of what its integer holds; the divergence is
    the sum of P log(P / Q). There the range is symmetric; here its two ends are searched together, and only bins that
    hold values take part, so that Q is zero nowhere where P is not. A range of fewer bins than integers could not be
    told from the values themselves and is not tried.

    Args:
        scheme: form of the scale that the range will get.
    """
    values, counts = histogram.values()
    weights = counts.astype(np.float64)
    narrowest = (LEVELS + 1) * histogram.width

    def cost(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> NDArray[np.float64]:
        found = divergences(values, weights, lows, highs, scheme=scheme)
        widest = int(np.argmax(highs - lows))
        narrow = highs - lows < narrowest
        narrow[widest] = False
        return np.where(narrow, np.inf, found)

    return best_range(histogram, cost, scheme=scheme)


def divergences(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    *,
    scheme: Scheme,
) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence that each range causes, in nats; infinite where it holds no value.

    Args:
        values: (values,) ascending; weights: (values,) how often each was seen, above zero.
        lows, highs: (ranges,) each.
    """
    scales, zero_points = uint8_steps(lows, highs, scheme=scheme)
    parts = [
        _divergences(values, weights, scales[start : start + _AT_ONCE], zero_points[start : start + _AT_ONCE])
        for start in range(0, len(lows), _AT_ONCE)
    ]
    return np.concatenate(parts)


def _divergences(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    scales: NDArray[np.float32],
    zero_points: NDArray[np.float64],
) -> NDArray[np.float64]:
    # A row for each range; in it a slot for each integer, one for what is clipped below and one for what is above.
    integers = np.rint(values / scales[:, None].astype(np.float64)) + zero_points[:, None]
    slots = np.clip(integers, -1, LEVELS + 1).astype(np.intp) + 1
    rows, width = np.arange(len(scales)), LEVELS + 3
    bins = np.bincount((slots + width * rows[:, None]).ravel(), minlength=width * len(rows)).reshape(-1, width)
    # Values ascend, so each slot holds a run of them, and sums over it are differences of running sums.
    ends = np.cumsum(bins, axis=1)
    first, past = ends[:, 0], ends[:, -2]
    seen = np.concatenate([[0.0], np.cumsum(weights)])
    seen_log = np.concatenate([[0.0], np.cumsum(_x_log_x(weights))])
    mass = np.diff(seen[ends], axis=1)[:, :-1]
    log_after = np.log(np.where(mass > 0, mass, 1.0) / np.maximum(bins[:, 1:-1], 1))

    below, above = seen[first], seen[-1] - seen[past]
    lowest, highest = np.minimum(first, len(values) - 1), np.maximum(past - 1, 0)
    at_low, at_high = weights[lowest], weights[highest] + np.where(lowest == highest, below, 0.0)
    p_log_p = seen_log[past] - seen_log[first]
    p_log_p += _x_log_x(at_low + below) - _x_log_x(at_low) + _x_log_x(at_high + above) - _x_log_x(at_high)
    p_log_q = (mass * log_after).sum(axis=1)
    p_log_q += below * log_after[rows, np.clip(slots[rows, lowest] - 1, 0, LEVELS)]
    p_log_q += above * log_after[rows, np.clip(slots[rows, highest] - 1, 0, LEVELS)]
    # Both are distributions only after division by their sums: P by all there is, Q by what is inside.
    inside = np.where(past > first, seen[past] - seen[first], 1.0)
    return np.where(past > first, (p_log_p - p_log_q) / seen[-1] + np.log(inside / seen[-1]), np.inf)


def _x_log_x(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of values above zero."""
    products: NDArray[np.float64] = values * np.log(values)
    return products
