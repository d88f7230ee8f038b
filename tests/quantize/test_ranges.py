import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecha.quantize.histogram import Histogram
from mecha.quantize.ranges import (
    Range,
    activation_step,
    extremes,
    mean_extremes,
    most_frames,
    percentile_range,
    quantized_bias,
    quantized_weights,
    scales_for_bias,
    uint8_steps,
    weight_scales,
)

finite = st.floats(-1e4, 1e4, width=32)


def test_the_mean_of_extremes_is_not_stretched_by_one_odd_frame() -> None:
    lows, highs = np.array([-1.0, -1.0, -10.0]), np.array([2.0, 2.0, 20.0])
    assert mean_extremes(lows, highs) == Range(-4.0, 8.0)
    assert extremes(lows, highs) == Range(-10.0, 20.0)


def test_a_percentile_clips_both_ends_by_its_share() -> None:
    even = Histogram(np.full(100, 10, dtype=np.int64), 0.0, 100.0)
    assert percentile_range(even, percentile=90.0) == Range(10.0, 90.0)
    assert percentile_range(even, percentile=100.0) == Range(0.0, 100.0)


def test_a_percentile_of_nothing_is_all_there_is() -> None:
    assert percentile_range(Histogram(np.zeros(8, dtype=np.int64), -1.0, 1.0)) == Range(-1.0, 1.0)


def test_a_lonely_outlier_is_clipped() -> None:
    counts = np.zeros(1000, dtype=np.int64)
    counts[:10], counts[-1] = 100_000, 1
    found = percentile_range(Histogram(counts, 0.0, 1000.0))
    assert (found.low, found.high) == (0.0, 10.0)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30).filter(any), st.floats(50, 99))
def test_a_percentile_leaves_out_no_more_than_its_share(counts: list[int], percentile: float) -> None:
    found = percentile_range(Histogram(np.array(counts), 0.0, float(len(counts))), percentile=percentile)
    values = np.repeat(np.arange(len(counts)) + 0.5, counts)
    share = len(values) * (100 - percentile) / 100
    assert np.sum(values < found.low) <= share + 1e-9
    assert np.sum(values > found.high) <= share + 1e-9


@given(low=finite, high=finite, signed=st.booleans(), scheme=st.sampled_from(["uniform", "symmetric", "power_of_two"]))
def test_zero_is_always_exact_and_the_range_is_covered(low: float, high: float, signed: bool, scheme: str) -> None:
    low, high = min(low, high), max(low, high)
    dtype = "int8" if signed else "uint8"
    step = activation_step(Range(low, high), dtype=dtype, scheme=scheme)  # type: ignore[arg-type]
    lowest = np.iinfo(dtype).min
    assert lowest <= step.zero_point <= lowest + 255
    ends = [(integer - step.zero_point) * float(step.scale) for integer in (lowest, lowest + 255)]
    slack = float(step.scale) * (1.0 + 1e-4)
    assert ends[0] <= max(min(low, 0.0) + slack, 0.0)
    assert ends[1] >= max(high, 0.0) - slack


def test_the_schemes_differ_as_their_names_say() -> None:
    values = Range(-1.0, 3.0)
    uniform, symmetric, power = (
        activation_step(values, dtype="uint8", scheme=scheme) for scheme in ("uniform", "symmetric", "power_of_two")
    )
    assert uniform.zero_point == round(255 / 4)
    assert symmetric.zero_point == power.zero_point == 128
    assert float(symmetric.scale) == pytest.approx(3 / 127)
    assert float(power.scale) == 2**-5


@given(
    st.lists(st.tuples(finite, finite), min_size=1, max_size=5),
    st.sampled_from(["uniform", "symmetric", "power_of_two"]),
)
def test_many_ranges_at_once_get_the_steps_of_each(ends: list[tuple[float, float]], scheme: str) -> None:
    ranges = [Range(min(pair), max(pair)) for pair in ends]
    lows, highs = np.array([item.low for item in ranges]), np.array([item.high for item in ranges])
    scales, zero_points = uint8_steps(lows, highs, scheme=scheme)  # type: ignore[arg-type]
    for item, scale, zero_point in zip(ranges, scales, zero_points, strict=True):
        unsigned, signed = (activation_step(item, dtype=dtype, scheme=scheme) for dtype in ("uint8", "int8"))  # type: ignore[arg-type]
        assert (unsigned.scale, unsigned.zero_point) == (scale, zero_point)
        assert (signed.scale, signed.zero_point) == (scale, zero_point - 128)


def test_a_tensor_that_is_always_zero_has_a_scale() -> None:
    step = activation_step(Range(0.0, 0.0), dtype="uint8", scheme="uniform")
    assert step.scale > 0
    assert step.zero_point == 0


@pytest.mark.parametrize(("bits", "limit"), [(8, 127), (7, 64)])
def test_weights_are_rounded_by_channel(bits: int, limit: int) -> None:
    weights = np.random.default_rng(0).normal(size=(6, 4, 3, 3)).astype(np.float32) * np.arange(6).reshape(-1, 1, 1, 1)
    scales = weight_scales(weights, bits=bits, scheme="uniform")  # type: ignore[arg-type]
    integers = quantized_weights(weights, scales, bits=bits)  # type: ignore[arg-type]
    assert integers.dtype == np.int8
    assert np.abs(integers).reshape(6, -1).max(axis=1).tolist() == [0] + [limit] * 5
    np.testing.assert_allclose(integers * scales.reshape(-1, 1, 1, 1), weights, atol=float(scales[1:].max()) / 2 + 1e-6)


def test_a_bias_too_large_for_its_scale_widens_it() -> None:
    scales, bias = np.full(2, 1e-9, np.float32), np.array([1e4, 1e-4], np.float32)
    activation = np.float32(1e-3)
    widened = scales_for_bias(scales, bias, activation)
    assert widened[0] > scales[0]
    assert widened[1] == scales[1]
    stored = quantized_bias(bias, widened.astype(np.float64) * activation)
    np.testing.assert_allclose(stored * widened.astype(np.float64) * activation, bias, rtol=1e-3)


def test_most_frames_leaves_out_the_widest_tenth_of_them() -> None:
    lows, highs = -np.arange(11, dtype=np.float64), np.arange(11, dtype=np.float64) * 2
    assert most_frames(lows, highs) == Range(-9.0, 18.0)
    assert most_frames(lows[3:4], highs[3:4]) == Range(-3.0, 6.0)
