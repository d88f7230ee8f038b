from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from mecha.catalog.schema import RangeMethod
from mecha.errors import ConfigError
from mecha.quantize.calibrate import Observed, observe, range_of
from mecha.quantize.histogram import Counter
from mecha.quantize.plan import Planner
from mecha.quantize.ranges import HISTOGRAM_METHODS, RANGE_METHODS, Range, Scheme
from tests.graph.networks import yolov8_network
from tests.quantize.test_observe import Images

METHODS = RANGE_METHODS[1:]
# Three frames of a tensor: the last one is odd.
LOWS, HIGHS = np.array([[-1.0], [-2.0], [-30.0]]), np.array([[2.0], [4.0], [60.0]])


def seen(values: NDArray[np.float64] | None = None) -> Observed:
    """Values, a standard normal distribution by default, each seen 200 times, and the extremes, each seen once."""
    if values is None:
        values = np.random.default_rng(0).normal(size=100_000)
    counter = Counter(-30.0, 60.0)
    counter.add(values.astype(np.float32))
    often = counter.histogram()
    counter = Counter(-30.0, 60.0)
    counter.add(np.array([-30.0, 60.0], np.float32))
    histogram = replace(often, counts=often.counts * 200 + counter.histogram().counts)
    return Observed(("t",), LOWS, HIGHS, {"t": histogram})


def test_every_method_of_the_catalog_exists() -> None:
    assert set(get_args(RangeMethod)) == set(RANGE_METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_every_tensor_a_range_inside_its_extremes(method: str) -> None:
    model = yolov8_network()
    tensors = Planner(model).plan().observed[:8]
    observed = observe(model, tensors, Images(), histograms=True, threads=1, on_frame=lambda: None)
    found, widest = ({name: range_of(observed, name, way) for name in tensors} for way in (method, "minmax"))
    for name in tensors:
        assert widest[name].low - 1e-5 <= found[name].low <= found[name].high <= widest[name].high + 1e-5


def test_extremes_are_joined_over_the_frames() -> None:
    assert range_of(seen(), "t", "minmax") == Range(-30.0, 60.0)
    assert range_of(seen(), "t", "mean_minmax") == Range(-11.0, 22.0)


@pytest.mark.parametrize("method", ["percentile", "mse", "mae", "entropy"])
def test_what_is_told_by_frequency_clips_the_odd_values(method: str) -> None:
    found = range_of(seen(), "t", method)
    assert -8 < found.low < -2
    assert 2 < found.high < 8


@pytest.mark.parametrize("method", METHODS)
def test_a_z_threshold_leaves_out_odd_frames_and_odd_values(method: str) -> None:
    threshold = 1.2 if method not in HISTOGRAM_METHODS else 3.0
    found = range_of(seen(), "t", method, z_threshold=threshold)
    whole = range_of(seen(), "t", method)
    assert whole.low < found.low < 0 < found.high < whole.high
    if method == "minmax":
        assert found == Range(-2.0, 4.0)
    if method == "mean_minmax":
        assert found == Range(-1.5, 3.0)


def test_a_z_threshold_that_leaves_no_frame_leaves_them_all() -> None:
    two = replace(seen(), lows=LOWS[1:], highs=HIGHS[1:])
    assert range_of(two, "t", "minmax", z_threshold=0.5) == Range(-30.0, 60.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_z_threshold_must_be_above_zero(threshold: float) -> None:
    with pytest.raises(ConfigError) as refusal:
        range_of(seen(), "t", "minmax", z_threshold=threshold)
    assert str(refusal.value) == f"z_threshold: got {threshold:g}; expected a number above 0"


@pytest.mark.parametrize("method", METHODS)
def test_a_range_does_not_go_below_the_floor(method: str) -> None:
    assert range_of(seen(), "t", method, floor=-0.5).low == pytest.approx(-0.5, abs=0.05)
    assert range_of(seen(), "t", method, floor=-0.5).low >= -0.5
    assert range_of(seen(), "t", method, floor=-100.0) == range_of(seen(), "t", method)


def test_clipping_to_the_floor_is_no_error() -> None:
    """Half of all values lie far below it: the range that keeps them apart serves nobody."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-29, -20, 50_000), rng.normal(size=50_000)])
    free, floored = range_of(seen(values), "t", "mse"), range_of(seen(values), "t", "mse", floor=-6.0)
    assert free.low < -20
    # What the integers below are not spent on serves the values above.
    assert floored.high > free.high
    assert floored.high - floored.low < (free.high - free.low) / 2


@pytest.mark.parametrize("method", ["mse", "mae", "entropy"])
@pytest.mark.parametrize("scheme", ["symmetric", "power_of_two"])
def test_the_scheme_has_its_say(method: str, scheme: Scheme) -> None:
    one_sided = seen(np.abs(np.random.default_rng(0).standard_t(3, size=100_000)) - 2.0)
    found, uniform = (range_of(one_sided, "t", method, scheme=form) for form in (scheme, "uniform"))
    assert found != uniform
