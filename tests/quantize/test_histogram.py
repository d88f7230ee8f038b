import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.quantize.histogram import BINS, Counter, Histogram

finite = st.floats(-1e6, 1e6, width=32)


def counted(values: NDArray[np.float32]) -> Histogram:
    counter = Counter(float(values.min()), float(values.max()))
    counter.add(values)
    return counter.histogram()


@given(st.lists(finite, min_size=1, max_size=30))
def test_every_value_is_counted_in_the_bin_it_lies_in(values: list[float]) -> None:
    found = counted(np.array(values, np.float32))
    assert found.counts.sum() == len(values)
    assert found.low < min(values)
    assert found.high > max(values)
    centres, counts = found.values()
    stand_ins = np.repeat(centres, counts)
    # Half a bin, and what float32 cannot tell apart.
    slack = found.width * 0.51 + max(abs(value) for value in values) * 2e-7
    assert np.abs(stand_ins - np.sort(values)).max() <= slack


@given(st.lists(finite, min_size=1, max_size=30))
def test_zero_stands_for_itself(values: list[float]) -> None:
    zeros = np.zeros(5, np.float32)
    found = counted(np.concatenate([np.array(values, np.float32), zeros]))
    nearest = int(np.argmin(np.abs(found.centres)))
    assert abs(found.centres[nearest]) < found.width * 1e-6
    assert found.counts[nearest] >= 5


def test_counts_add_up_call_by_call() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3, 10, 10)).astype(np.float32)
    counter = Counter(float(values.min()), float(values.max()))
    for part in values:
        counter.add(part)
    np.testing.assert_array_equal(counter.histogram().counts, counted(values).counts)


def test_values_beyond_the_known_extremes_are_counted_in_the_outermost_bins() -> None:
    counter = Counter(-1.0, 1.0)
    counter.add(np.array([-5.0, 5.0, 6.0], np.float32))
    counts = counter.histogram().counts
    assert (counts[0], counts[-1], counts.sum(), len(counts)) == (1, 2, 3, BINS)


@pytest.mark.parametrize("value", [0.0, 3.5, -1e6, 1e-20])
def test_a_tensor_of_one_value_has_one_bin_that_is_not_empty(value: float) -> None:
    centres, counts = counted(np.full(7, value, np.float32)).values()
    assert counts.tolist() == [7]
    assert centres[0] == pytest.approx(value, rel=1e-6, abs=1e-20)


def test_what_lies_far_from_the_mean_is_left_out() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=10_000), [50.0]]).astype(np.float32)
    found = counted(values)
    near = found.within(3.0)
    deviation = values.std()
    assert near.counts.sum() == pytest.approx(np.sum(np.abs(values - values.mean()) <= 3 * deviation), abs=200)
    assert near.high == pytest.approx(values.mean() + 3 * deviation, abs=2 * found.width)
    assert near.width == pytest.approx(found.width)


@pytest.mark.parametrize("counts", [[0, 0, 0], [5, 0, 5]])
def test_where_nothing_would_be_left_everything_is(counts: list[int]) -> None:
    histogram = Histogram(np.array(counts), 0.0, 3.0)
    assert histogram.within(0.5) is histogram
