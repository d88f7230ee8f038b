"""One Conv after the other, for tests that look into a single one."""

import numpy as np
from numpy.typing import NDArray


def patches(
    values: NDArray[np.float32],
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> NDArray[np.float64]:
    """Return what a Conv reads at each place, (places, channels * rows * columns), of (1, channels, rows, columns)."""
    top, left, bottom, right = pads
    padded = np.pad(values[0].astype(np.float64), ((0, 0), (top, bottom), (left, right)))
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    return np.array(
        [
            padded[:, row : row + reach[0] : dilations[0], column : column + reach[1] : dilations[1]].ravel()
            for row in range(0, padded.shape[1] - reach[0] + 1, strides[0])
            for column in range(0, padded.shape[2] - reach[1] + 1, strides[1])
        ]
    )


def correlated(rng: np.random.Generator, count: int, inputs: int) -> NDArray[np.float64]:
    """Return (count, inputs) inputs that go along with one another, as pixels do; their means are not zero."""
    mixing = rng.normal(size=(inputs, inputs)) / inputs**0.5 + 2 * rng.normal(size=(1, inputs))
    drawn: NDArray[np.float64] = rng.normal(size=(count, inputs)) @ mixing + rng.normal(size=inputs)
    return drawn


def gram_of(inputs: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (inputs, inputs), sums of products with the means taken off."""
    centred = inputs - inputs.mean(axis=0)
    products: NDArray[np.float32] = (centred.T @ centred).astype(np.float32)
    return products
