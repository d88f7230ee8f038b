"""Weights of the integer Convs, rounded by reconstruction on what goes into them on calibration frames."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.graph.index import GraphIndex
from mecha.quantize.grams import Gram, find_grams
from mecha.quantize.parameters import ConvParameters, parameters_of
from mecha.quantize.qdq import Storage
from mecha.quantize.ranges import weight_scales
from mecha.quantize.rounding import rounded

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.quantize.calibrate import Inputs

# Shares of the largest weight that become the largest integer; beyond it weights are clipped.
_CLIPS = (1.0, 0.97, 0.94, 0.9, 0.86, 0.8)


def reconstructed(
    model: "ModelProto",
    convs: Sequence[str],
    inputs: "Inputs",
    storage: Storage,
    *,
    threads: int,
    on_conv: Callable[[int], None],
) -> dict[str, ConvParameters]:
    """Return weights, scales and bias of each Conv, chosen so that its output stays on the calibration frames.

    Args:
        model: FP32, of one input size.
        convs: names; those that no Gram matrix can be made of are left out.
        inputs: input tensors (1, 3, height, width), the same at each call.
        on_conv: called with the number of Convs done.
    """
    index = GraphIndex.of(model)
    nodes = {node.name: node for node in model.graph.node}
    found: dict[str, ConvParameters] = {}
    for name, gram in find_grams(model, convs, inputs, threads=threads, on_frame=lambda: None):
        conv = nodes[name]
        given = parameters_of(index, conv)
        found[name] = _parameters(given.weights, given.bias, gram, storage)
        on_conv(len(found))
    return found


def nearest_rounded(model: "ModelProto", convs: Sequence[str], storage: Storage) -> dict[str, ConvParameters]:
    """Return weights, scales and bias of each Conv, each weight to be rounded to its nearest integer.

    Args:
        convs: names.
    """
    index = GraphIndex.of(model)
    nodes = {node.name: node for node in model.graph.node}
    found: dict[str, ConvParameters] = {}
    for name in convs:
        given = parameters_of(index, nodes[name])
        scales = weight_scales(given.weights, bits=storage.weight_bits, scheme=storage.scheme)
        found[name] = replace(given, scales=scales)
    return found


def _parameters(
    weights: NDArray[np.float32], bias: NDArray[np.float32] | None, gram: Gram, storage: Storage
) -> ConvParameters:
    groups, inputs = gram.means.shape
    grouped = weights.reshape(groups, -1, inputs)
    limit = 127 if storage.weight_bits == 8 else 64  # noqa: PLR2004
    scales = clipped_scales(weights, gram, storage)
    integers = rounded(grouped, gram.products, scales.reshape(groups, -1), limit=limit)
    stored = integers * scales.reshape(groups, -1, 1)
    if bias is not None:
        # The mean of the output stays where it was.
        bias = (bias + np.einsum("goi,gi->go", grouped - stored, gram.means).reshape(-1)).astype(np.float32)
    return ConvParameters(stored.reshape(weights.shape).astype(np.float32), scales, bias)


def clipped_scales(weights: NDArray[np.float32], gram: Gram, storage: Storage) -> NDArray[np.float32]:
    """Return the scale of each output channel that changes its output least: the largest weight's, or a smaller one.

    The error of a weight counts as much as its input varies.

    Args:
        weights: (out, in, rows, columns).
    """
    whole = weight_scales(weights, bits=storage.weight_bits, scheme=storage.scheme)
    if storage.scheme == "power_of_two":
        return whole
    groups, inputs = gram.means.shape
    grouped = weights.reshape(groups, -1, inputs).astype(np.float64)
    limit = 127 if storage.weight_bits == 8 else 64  # noqa: PLR2004
    weight_of = np.einsum("gkk->gk", gram.products)
    errors = []
    for clip in _CLIPS:
        steps = (whole * np.float32(clip)).astype(np.float64).reshape(groups, -1, 1)
        change = np.clip(np.rint(grouped / steps), -limit, limit) * steps - grouped
        errors.append(np.einsum("goi,gi->go", np.square(change), weight_of).reshape(-1))
    best = np.argmin(np.array(errors), axis=0)
    scales: NDArray[np.float32] = whole * np.array(_CLIPS, dtype=np.float32)[best]
    return scales
