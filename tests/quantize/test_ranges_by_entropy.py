import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.quantize.histogram import Histogram
from mecha.quantize.ranges import Range, Scheme, activation_step
from mecha.quantize.ranges_by_entropy import divergences, range_by_entropy
from tests.quantize.test_ranges_by_error import long_tailed, tried


def divergence(values: list[float], counts: list[int], range_: Range, scheme: Scheme) -> float:
    """As the formula is written down, bin by bin."""
    step = activation_step(range_, dtype="uint8", scheme=scheme)
    integers = [round(value / float(step.scale)) + step.zero_point for value in values]
    inside = [at for at, integer in enumerate(integers) if 0 <= integer <= 255]
    if not inside:
        return math.inf
    before = {at: float(counts[at]) for at in inside}
    before[inside[0]] += sum(counts[: inside[0]])
    before[inside[-1]] += sum(counts[inside[-1] + 1 :])
    after = {}
    for at in inside:
        same = [other for other in inside if integers[other] == integers[at]]
        after[at] = sum(counts[other] for other in same) / len(same)
    p, q = sum(before.values()), sum(after.values())
    return sum(before[at] / p * math.log((before[at] / p) / (after[at] / q)) for at in inside)


@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=24),
    st.floats(-50, 50),
    st.floats(0.01, 200),
    st.sampled_from(["uniform", "symmetric", "power_of_two"]),
)
def test_divergences_are_those_of_the_formula(counts: list[int], low: float, span: float, scheme: Scheme) -> None:
    histogram = Histogram(np.array(counts, np.int64), low, low + span)
    ranges = tried(histogram, scheme, 5)
    lows, highs = np.array([item.low for item in ranges]), np.array([item.high for item in ranges])
    values, kept = histogram.values()
    found = divergences(values, kept.astype(np.float64), lows, highs, scheme=scheme)
    expected = [divergence(values.tolist(), kept.tolist(), item, scheme) for item in ranges]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_nothing_is_lost_where_every_bin_has_its_integer() -> None:
    values = np.arange(-100, 100) / 10.0
    found = divergences(values, np.ones(200), np.array([-10.0]), np.array([15.5]), scheme="uniform")
    assert found[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scheme", ["uniform", "symmetric"])
def test_a_far_outlier_is_clipped(scheme: Scheme) -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=200_000), [40.0]])
    counts, edges = np.histogram(values, 2048)
    found = range_by_entropy(Histogram(counts.astype(np.int64), float(edges[0]), float(edges[-1])), scheme=scheme)
    assert -6 < found.low < -2
    assert 2 < found.high < 10


def test_evenly_spread_values_are_not_clipped() -> None:
    found = range_by_entropy(Histogram(np.full(2048, 10), -1.0, 3.0), scheme="uniform")
    assert (found.low, found.high) == pytest.approx((-1.0, 3.0), rel=0.03)


@pytest.mark.parametrize("relu", [True, False])
def test_a_range_has_at_least_as_many_bins_as_there_are_integers(relu: bool) -> None:
    histogram = long_tailed(0, relu=relu)
    found = range_by_entropy(histogram, scheme="uniform")
    assert found.high - found.low >= 256 * histogram.width


@pytest.mark.parametrize("counts", [[0, 0], [9], [0, 5, 0]])
def test_the_smallest_histograms_have_a_range(counts: list[int]) -> None:
    found = range_by_entropy(Histogram(np.array(counts), -1.0, 2.0), scheme="uniform")
    assert -1 <= found.low <= found.high <= 2
