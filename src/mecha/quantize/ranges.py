"""From what was seen of a tensor to its range, and from the range to scale and zero point."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mecha.quantize.histogram import Histogram

Scheme = Literal["uniform", "symmetric", "power_of_two"]
ActivationType = Literal["uint8", "int8"]

# The ways to find a range; "auto" chooses among them.
RANGE_METHODS = ("auto", "most_frames", "mean_minmax", "minmax", "percentile", "mse", "mae", "entropy")
# Those that look at how often a tensor takes which values; the others look at its extremes only.
HISTOGRAM_METHODS = frozenset({"percentile", "mse", "mae", "entropy"})
SCHEMES: tuple[str, ...] = get_args(Scheme)

# Values beyond this share of all values are clipped at each end: 1 of 100 000.
PERCENTILE = 99.999
_MOST = 0.9
# Steps between the smallest and the largest of 8-bit integers.
LEVELS = 255
_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True, slots=True)
class Range:
    """The values of a tensor that INT8 can hold, low <= high."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Step:
    """How a tensor is stored: value = (integer - zero_point) * scale."""

    scale: np.float32
    zero_point: int


def mean_extremes(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> Range:
    """The mean over the frames of each frame's minimum and maximum: one odd frame does not stretch the range.

    Args:
        lows: (frames,) minimum of the tensor in each frame; highs: its maximum.
    """
    return Range(float(lows.mean()), float(highs.mean()))


def most_frames(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> Range:
    """The range that nine in ten frames stay within, at either end.

    The values it gives up are rarer than with `mean_extremes`, which half of the frames exceed, and those are the
    strongest objects: it lost 0.3 % of mAP where the mean lost 1.3 % (yolov8n, 64 photos), gained 1.6 % where the mean
    lost 1.9 % (yolo11n).
    """
    return Range(float(np.quantile(lows, 1 - _MOST)), float(np.quantile(highs, _MOST)))


def extremes(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> Range:
    """The smallest and the largest value of any frame."""
    return Range(float(lows.min()), float(highs.max()))


def percentile_range(histogram: Histogram, *, percentile: float = PERCENTILE) -> Range:
    """The range between the lower and the upper percentile.

    Args:
        percentile: 50 to 100; the share of values that lie below the upper end, and above the lower one.
    """
    counts = histogram.counts
    total = int(counts.sum())
    if not total:
        return Range(histogram.low, histogram.high)
    clipped = total * (100 - percentile) / 100
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])
    first = int(np.searchsorted(below, clipped, side="right"))
    last = len(counts) - int(np.searchsorted(above, clipped, side="right"))
    width = histogram.width
    return Range(histogram.low + first * width, histogram.low + max(last, first + 1) * width)


def activation_step(values: Range, *, dtype: ActivationType, scheme: Scheme) -> Step:
    """Return scale and zero point of an activation. Zero is always exact: padding and ReLU rest on it.

    Args:
        values: what the tensor holds.
        dtype: the integer type.
        scheme: "uniform" uses the range as it is; "symmetric" centres it on zero; "power_of_two" also rounds the scale
            up to a power of two.
    """
    scales, zero_points = uint8_steps(np.array([values.low]), np.array([values.high]), scheme=scheme)
    return Step(scales[0], int(zero_points[0]) - (0 if dtype == "uint8" else 128))


def uint8_steps(
    lows: NDArray[np.float64], highs: NDArray[np.float64], *, scheme: Scheme
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the scales and the zero points, whole numbers from 0 to 255, of many ranges at once.

    Args:
        lows, highs: (ranges,) their ends.
    """
    lows, highs = np.minimum(lows, 0.0), np.maximum(highs, 0.0)
    if scheme == "uniform":
        scales = np.maximum((highs - lows) / LEVELS, _SMALLEST_SCALE).astype(np.float32)
        return scales, np.clip(np.rint(-lows / scales.astype(np.float64)), 0, LEVELS)
    scales = np.maximum(np.maximum(-lows, highs) / (LEVELS // 2), _SMALLEST_SCALE).astype(np.float32)
    if scheme == "power_of_two":
        scales = _power_of_two(scales)
    return scales, np.full(len(scales), 128.0)


def _power_of_two(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    return (2.0 ** np.ceil(np.log2(scales.astype(np.float64)))).astype(np.float32)


def weight_scales(weights: NDArray[np.float32], *, bits: Literal[7, 8], scheme: Scheme) -> NDArray[np.float32]:
    """Return the scale of each output channel; the zero point of weights is 0.

    Args:
        weights: (out, ...).
        bits: 7 keeps the weights in -64 .. 64, for CPUs that add pairs of products in 16 bits.
    """
    limit = 127 if bits == 8 else 64  # noqa: PLR2004
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    scales = np.where(largest > 0, largest / np.float32(limit), np.float32(1.0)).astype(np.float32)
    if scheme == "power_of_two":
        scales = _power_of_two(scales)
    return scales


def scales_for_bias(
    scales: NDArray[np.float32], bias: NDArray[np.float32], activation_scale: np.float32
) -> NDArray[np.float32]:
    """Widen weight scales where the bias, stored as int32 of activation_scale * weight scale, would not fit."""
    room = np.float64(2**31 - 1) * 0.9
    needed = np.abs(bias.astype(np.float64)) / (np.float64(activation_scale) * room)
    return np.maximum(scales.astype(np.float64), needed).astype(np.float32)


def quantized_weights(
    weights: NDArray[np.float32], scales: NDArray[np.float32], *, bits: Literal[7, 8]
) -> NDArray[np.int8]:
    """Round weights (out, ...) to integers by the scale of their output channel."""
    limit = 127 if bits == 8 else 64  # noqa: PLR2004
    by_channel = scales.reshape(-1, *[1] * (weights.ndim - 1))
    integers: NDArray[np.int8] = np.clip(np.rint(weights / by_channel), -limit, limit).astype(np.int8)
    return integers


def quantized_bias(bias: NDArray[np.float32], scales: NDArray[np.float64]) -> NDArray[np.int32]:
    """Round a bias (out,) to int32 by its scales (out,)."""
    limits = np.iinfo(np.int32)
    return np.clip(np.rint(bias.astype(np.float64) / scales), limits.min, limits.max).astype(np.int32)
