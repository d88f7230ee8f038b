import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.quantize.ranges import quantized_weights, weight_scales
from mecha.quantize.rounding import _inverse, rounded
from tests.quantize.convs import correlated, gram_of


def some_weights(seed: int, out: int, inputs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weights = np.random.default_rng(seed).normal(0, 0.1, (out, inputs)).astype(np.float32)
    return weights, weight_scales(weights, bits=8, scheme="uniform")


def output_error(change: NDArray[np.floating], inputs: NDArray[np.float64]) -> float:
    """How far the outputs move but for their means, which the bias makes up for."""
    return float(np.square((inputs - inputs.mean(axis=0)) @ change.T).mean())


# 130 inputs are more than the block that is corrected at once.
@pytest.mark.parametrize("inputs", [9, 64, 130])
def test_the_output_stays_nearer_than_by_rounding_each_weight_to_its_nearest(inputs: int) -> None:
    rng = np.random.default_rng(1)
    drawn = correlated(rng, 2000, inputs)
    learned, held_out = drawn[:1500], drawn[1500:]
    weights, scales = some_weights(2, 16, inputs)
    integers = rounded(weights[None], gram_of(learned)[None], scales[None], limit=127)[0]
    nearest = quantized_weights(weights, scales, bits=8)
    errors = [output_error(found * scales[:, None] - weights, held_out) for found in (integers, nearest)]
    assert errors[0] < 0.5 * errors[1]


def test_groups_are_rounded_each_for_itself() -> None:
    rng = np.random.default_rng(3)
    groups, out, inputs = 5, 1, 9  # depthwise
    grams = np.stack([gram_of(correlated(rng, 300, inputs)) for _ in range(groups)])
    weights, scales = some_weights(4, groups * out, inputs)
    weights, scales = weights.reshape(groups, out, inputs), scales.reshape(groups, out)
    together = rounded(weights, grams, scales, limit=127)
    for group in range(groups):
        part = slice(group, group + 1)
        np.testing.assert_array_equal(together[part], rounded(weights[part], grams[part], scales[part], limit=127))


def test_inputs_that_never_vary_are_rounded_to_the_nearest() -> None:
    rng = np.random.default_rng(5)
    drawn = correlated(rng, 500, 12)
    drawn[:, 4] = 3.0
    weights, scales = some_weights(6, 8, 12)
    nearest = quantized_weights(weights, scales, bits=8)
    one_still = rounded(weights[None], gram_of(drawn)[None], scales[None], limit=127)[0]
    assert np.abs(one_still[:, 4] - nearest[:, 4]).max() <= 1
    all_still = rounded(weights[None], np.zeros((1, 12, 12), dtype=np.float32), scales[None], limit=127)[0]
    np.testing.assert_array_equal(all_still, nearest)


@settings(max_examples=30, deadline=None)
@given(limit=st.sampled_from([64, 127]), seed=st.integers(0, 1000), inputs=st.integers(1, 70))
def test_integers_stay_within_their_limit(limit: int, seed: int, inputs: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.1, (2, 3, inputs)).astype(np.float32)
    # Scales half as large as they should be: what does not fit is clipped.
    scales = np.abs(weights).max(axis=2) / np.float32(2 * limit)
    grams = np.stack([gram_of(correlated(rng, 40, inputs)) for _ in range(2)])
    integers = rounded(weights, grams, scales, limit=limit)
    assert integers.dtype == np.int8
    assert (integers.shape, int(np.abs(integers.astype(int)).max())) == (weights.shape, limit)


def test_what_is_a_multiple_of_its_scale_stays_as_it_is() -> None:
    rng = np.random.default_rng(7)
    wanted = rng.integers(-64, 65, (1, 4, 20)).astype(np.int8)
    scales = np.array([[0.5, 0.25, 0.125, 1.0]], dtype=np.float32)
    gram = gram_of(correlated(rng, 200, 20))[None]
    found = rounded(wanted * scales[:, :, None], gram, scales, limit=64)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", [1, 64, 65, 200])
def test_triangular_matrices_are_inverted(size: int) -> None:
    rng = np.random.default_rng(size)
    upper = np.triu(rng.normal(size=(2, size, size)) / size**0.5 + np.eye(size)).astype(np.float32)

    found = _inverse(upper)

    np.testing.assert_allclose(found @ upper, np.broadcast_to(np.eye(size), upper.shape), atol=1e-4)
    np.testing.assert_array_equal(found, np.triu(found))
