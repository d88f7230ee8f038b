"""Whether a decoder of the tensors before the tail does what the tail does: tried out when a model is loaded.

The order of anchors, grids and anchor shapes differ between exporters. A decoder that was told by structure is used
only where it gives, for arbitrary values, what the file's own tail gives; otherwise the graph runs whole.
"""

from typing import TYPE_CHECKING

import numpy as np

from mecha.graph.probe import run_tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto

    from mecha.detect.decode.candidates import Decoder
    from mecha.graph.heads import HeadTensor

    _Raw = tuple[NDArray[np.float32], NDArray[np.float32]]

# Half of what the cut may differ by: 0.5 pixels and 0.002 of a score.
_MOST_PIXELS = 0.25
_MOST_SCORE = 0.001


def same_as_tail(
    model: "ModelProto", tensors: "tuple[HeadTensor, ...]", *, before_tail: "Decoder", exported: "Decoder"
) -> bool:
    """Compare, for all anchors, a decoder of `tensors` with a decoder of what the tail makes of them."""
    rng = np.random.default_rng(0)
    values: Mapping[str, NDArray[np.float32]] = {
        tensor.name: rng.uniform(-2, 2, tensor.shape).astype(np.float32) for tensor in tensors
    }
    outputs = run_tail(model, values)
    if outputs is None:
        return False
    return agree(before_tail.raw(list(values.values())), exported.raw(outputs))


def agree(ours: "_Raw", theirs: "_Raw") -> bool:
    """Say whether two decoders give the same scores (A, C) and boxes (A, 4) in pixels, as near as a cut must be."""
    if any(mine.shape != other.shape for mine, other in zip(ours, theirs, strict=True)):
        return False
    (scores, boxes), (expected_scores, expected_boxes) = ours, theirs
    return bool(
        np.abs(scores - expected_scores).max() <= _MOST_SCORE and np.abs(boxes - expected_boxes).max() <= _MOST_PIXELS
    )
