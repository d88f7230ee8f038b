"""Weights rounded so that the Conv's output stays, not each weight: reconstruction on the Gram matrix of its inputs.

Rounding a weight makes an error in the output that the weights not rounded yet can take back, as far as their inputs
go along with that weight's. With the Gram matrix H of the inputs the best correction is in closed form (Hassibi and
Stork, "Optimal Brain Surgeon", 1993); taking the columns in one order for all rows, with the Cholesky factor of the
inverse of H, is the algorithm of Frantar et al., "GPTQ", 2023. No labels, no gradient, one solve a Conv.
"""

import numpy as np
from numpy.typing import NDArray

# Added to the diagonal, as a share of its mean: what few samples say of rare inputs is not to be trusted.
# yolov5n on photos and on scenes: 0.01 to 0.1 are alike within 5 %, 0.5 is worse by half.
DAMPING = 0.05
_BLOCK = 64


def rounded(
    weights: NDArray[np.float32], grams: NDArray[np.float32], scales: NDArray[np.float32], *, limit: int
) -> NDArray[np.int8]:
    """Round weights to integers.

    Args:
        weights: (groups, out, inputs) of one Conv; inputs are in * rows * columns of its kernel.
        grams: (groups, inputs, inputs), sums of products of the inputs over many places, their means taken off.
        scales: (groups, out): a weight is an integer times the scale of its output channel.
        limit: largest absolute integer.

    Returns:
        (groups, out, inputs) int8.
    """
    inputs = weights.shape[2]
    integers = np.empty(weights.shape, dtype=np.int8)
    diagonal = np.einsum("gkk->gk", grams)
    # The inputs that matter most go first, while all others can still make up for them.
    order = np.argsort(-diagonal, axis=1, kind="stable")
    left = np.take_along_axis(weights, order[:, None, :], axis=2)
    factors = _factors(grams, order)
    for start in range(0, inputs, _BLOCK):
        end = min(start + _BLOCK, inputs)
        errors = np.empty((*weights.shape[:2], end - start), dtype=np.float32)
        for column in range(start, end):
            wanted = left[:, :, column]
            found = np.clip(np.rint(wanted / scales), -limit, limit)
            np.put_along_axis(integers, order[:, None, column, None], found[:, :, None].astype(np.int8), axis=2)
            error = (wanted - found * scales) / factors[:, None, column, column]
            errors[:, :, column - start] = error
            left[:, :, column + 1 : end] -= error[:, :, None] * factors[:, None, column, column + 1 : end]
        left[:, :, end:] -= errors @ factors[:, start:end, end:]
    return integers


def _factors(grams: NDArray[np.float32], order: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the upper Cholesky factor of the inverse of each damped Gram matrix, its inputs in `order`."""
    damped = np.take_along_axis(np.take_along_axis(grams, order[:, :, None], axis=1), order[:, None, :], axis=2)
    inputs = damped.shape[1]
    places = np.arange(inputs)
    mean = np.einsum("gkk->g", damped) / inputs
    damped[:, places, places] += (DAMPING * mean + np.finfo(np.float32).tiny)[:, None]
    # H with its inputs reversed is L L', so H is R R' with an upper R, and R's inverse is the factor. The inverse of H
    # itself has lost, in 32 bits and with inputs that nearly equal one another, what makes it positive.
    lower = np.linalg.cholesky(damped[:, ::-1, ::-1])
    del damped  # a third of what this step holds; the largest Convs have 2304 inputs
    return _inverse(np.ascontiguousarray(lower[:, ::-1, ::-1]))


def _inverse(upper: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inverse of upper triangular matrices (groups, n, n); a general inverse takes ten times as long."""
    size = upper.shape[1]
    if size <= _BLOCK:
        return np.linalg.inv(upper)
    half = size // 2
    first, last = _inverse(upper[:, :half, :half]), _inverse(upper[:, half:, half:])
    found = np.zeros_like(upper)
    found[:, :half, :half], found[:, half:, half:] = first, last
    found[:, :half, half:] = -(first @ upper[:, :half, half:] @ last)
    return found
