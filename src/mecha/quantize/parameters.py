"""Weights and bias of one Conv as a build stores them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.graph.index import GraphIndex

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True, slots=True, eq=False)
class ConvParameters:
    """What takes the place of a Conv's weights and bias.

    Attributes:
        weights: (out, in, rows, columns) float32; multiples of `scales` where the Conv is stored as integers.
        scales: (out,) float32, of each output channel; None for a Conv that stays float.
        bias: (out,) float32; None for a Conv without one.
    """

    weights: NDArray[np.float32]
    scales: NDArray[np.float32] | None
    bias: NDArray[np.float32] | None


def parameters_of(index: GraphIndex, conv: "NodeProto") -> ConvParameters:
    """Return the weights and the bias that a Conv has in its model."""
    has_bias = len(conv.input) > 2 and bool(conv.input[2])  # noqa: PLR2004
    bias = stored_floats(index, conv.input[2]) if has_bias else None
    return ConvParameters(stored_floats(index, conv.input[1]), None, bias)


def stored_floats(index: GraphIndex, name: str) -> NDArray[np.float32]:
    """Return the values of a constant; the caller knows that the model stores them."""
    array = index.array(name)
    if array is None:
        message = f"{name} is not stored in the model"
        raise ValueError(message)
    return array.astype(np.float32)
