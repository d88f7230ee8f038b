import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.quantize.histogram import Histogram
from mecha.quantize.ranges import Range, Scheme, Step, activation_step
from mecha.quantize.ranges_by_error import Power, range_by_error, rounding_errors

schemes = st.sampled_from(["uniform", "symmetric", "power_of_two"])
powers = st.sampled_from([1, 2])


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    counts = draw(st.lists(st.integers(0, 1000), min_size=2, max_size=24).filter(any))
    low = draw(st.floats(-50, 50))
    return Histogram(np.array(counts, np.int64), low, low + draw(st.floats(0.01, 200)))


def stored(value: float, step: Step) -> float:
    integer = min(max(round(value / float(step.scale)) + step.zero_point, 0), 255)
    return (integer - step.zero_point) * float(step.scale)


def error(histogram: Histogram, range_: Range, power: int, scheme: Scheme) -> float:
    """One value at a time, by the very scale and zero point that the range gets."""
    step = activation_step(range_, dtype="uint8", scheme=scheme)
    pairs = zip(histogram.centres.tolist(), histogram.counts.tolist(), strict=True)
    return math.fsum(count * abs(stored(value, step) - value) ** power for value, count in pairs)


def tried(histogram: Histogram, scheme: Scheme, count: int) -> list[Range]:
    """A grid of ranges inside what the histogram holds, in even steps: another one than the search has."""
    values, _ = histogram.values()
    low, high = min(values[0], 0.0), max(values[-1], 0.0)
    shares = np.linspace(0.1, 1, count)
    if scheme != "uniform":
        reach = max(-low, high)
        return [Range(max(low, -share * reach), min(high, share * reach)) for share in shares]
    return [Range(low * one, high * two) for one in shares for two in shares]


@given(histograms(), powers, schemes)
def test_errors_of_many_ranges_are_those_found_one_value_at_a_time(
    histogram: Histogram, power: Power, scheme: Scheme
) -> None:
    ranges = tried(histogram, scheme, 7)
    lows, highs = np.array([item.low for item in ranges]), np.array([item.high for item in ranges])
    values, counts = histogram.values()
    found = rounding_errors(values, counts.astype(np.float64), lows, highs, power=power, scheme=scheme)
    expected = [error(histogram, item, power, scheme) for item in ranges]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@given(histograms(), powers, schemes)
def test_the_range_found_is_inside_and_no_worse_than_the_whole(
    histogram: Histogram, power: Power, scheme: Scheme
) -> None:
    found = range_by_error(histogram, power=power, scheme=scheme)
    whole = tried(histogram, scheme, 2)[-1]
    assert whole.low - 1e-9 <= found.low <= 0 <= found.high <= whole.high + 1e-9
    assert error(histogram, found, power, scheme) <= error(histogram, whole, power, scheme) * (1 + 1e-9) + 1e-12


def long_tailed(seed: int, *, relu: bool = False) -> Histogram:
    """2048 bins of what activations look like: most near zero, few far out."""
    values = np.random.default_rng(seed).standard_t(3, size=200_000)
    values = np.maximum(values, 0) if relu else values
    counts, edges = np.histogram(values, 2048)
    return Histogram(counts.astype(np.int64), float(edges[0]), float(edges[-1]))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("scheme", ["uniform", "symmetric", "power_of_two"])
@pytest.mark.parametrize("power", [1, 2])
def test_the_search_does_as_well_as_trying_every_range(power: Power, scheme: Scheme, relu: bool) -> None:
    histogram = long_tailed(seed=power, relu=relu)
    ranges = tried(histogram, scheme, 60)
    lows, highs = np.array([item.low for item in ranges]), np.array([item.high for item in ranges])
    values, counts = histogram.values()
    weights = counts.astype(np.float64)
    best = rounding_errors(values, weights, lows, highs, power=power, scheme=scheme).min()
    found = range_by_error(histogram, power=power, scheme=scheme)
    assert error(histogram, found, power, scheme) <= best * 1.02


def test_an_absolute_error_clips_more_than_a_square_one() -> None:
    histogram = long_tailed(0)
    by_square, by_absolute = (range_by_error(histogram, power=power, scheme="uniform") for power in (2, 1))
    assert histogram.low < by_square.low < by_absolute.low < 0 < by_absolute.high < by_square.high < histogram.high


def test_evenly_spread_values_are_not_clipped() -> None:
    found = range_by_error(Histogram(np.full(2048, 10), -1.0, 3.0), power=2, scheme="uniform")
    assert (found.low, found.high) == pytest.approx((-1.0, 3.0), rel=0.02)


def of(counts: list[int], low: float, high: float) -> Histogram:
    return Histogram(np.array(counts, np.int64), low, high)


@pytest.mark.parametrize(
    ("histogram", "expected"),
    [
        (of([0, 0], -1.0, 1.0), Range(-1.0, 1.0)),
        (of([0, 9, 0], -1.5, 1.5), Range(0.0, 0.0)),
        (of([9], 2.0, 4.0), Range(0.0, 3.0)),
        (of([9], -4.0, -2.0), Range(-3.0, 0.0)),
    ],
    ids=["nothing", "zeros", "one value", "one value below zero"],
)
def test_the_smallest_histograms_have_a_range(histogram: Histogram, expected: Range) -> None:
    found = range_by_error(histogram, power=2, scheme="symmetric")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
