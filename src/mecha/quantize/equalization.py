"""Equalization: the channels of a tensor between two Convs are given like sizes, and no output changes.

Where y = f(W1 x + b1) goes only into Convs, and f(s t) = s f(t) for s > 0, dividing channel c of W1 and b1 by s_c and
multiplying the weights that read it by s_c changes nothing but y (Nagel et al., "Data-Free Quantization through Weight
Equalization and Bias Correction", 2019, section 4.1). One scale then serves all channels of y. SiLU and HardSwish do
not allow it, Relu, LeakyRelu and no activation do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mecha.detect.session import Session
from mecha.graph.cut import cut_at
from mecha.graph.index import GraphIndex, attribute_of
from mecha.quantize.parameters import stored_floats

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})
# A channel that hardly ever takes a value must not get an endless scale.
_LARGEST_SCALE = 16.0
_PREFIX = "equalization"


@dataclass(frozen=True, slots=True)
class Pair:
    """A Conv and the Convs that alone read what it makes.

    Attributes:
        maker: name of the Conv.
        tensor: what is read, after the activation.
        readers: names of Convs.
    """

    maker: str
    tensor: str
    readers: tuple[str, ...]


def find_pairs(model: "ModelProto", integer: frozenset[str]) -> tuple[Pair, ...]:
    """Return the pairs whose Convs are all among `integer`, in graph order."""
    index = GraphIndex.of(model)
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.name not in integer or not _plain(index, node):
            continue
        tensor = node.output[0]
        after = index.consumers.get(tensor, ())
        if len(after) == 1 and after[0].op_type in _HOMOGENEOUS and tensor not in index.outputs:
            tensor = after[0].output[0]
            after = index.consumers.get(tensor, ())
        convs = [other for other in after if other.op_type == "Conv" and other.name in integer and _plain(index, other)]
        if convs and len(convs) == len(after) and tensor not in index.outputs:
            found.append(Pair(node.name, tensor, tuple(other.name for other in convs)))
    return tuple(found)


def equalizing(
    model: "ModelProto", pairs: Sequence[Pair], inputs: Sequence[NDArray[np.float32]], *, threads: int
) -> dict[str, NDArray[np.float32]]:
    """Return the initializers that change, by name; with them the model computes the same.

    The scale of a channel is the square root of the largest value that is seen in it over the largest weight that
    reads it, as in Xiao et al., "SmoothQuant", 2023, with an exponent of one half.

    Args:
        model: FP32, of one input size.
        pairs: as `find_pairs` returns them.
        inputs: input tensors (1, 3, height, width) to see the channels on.
    """
    index = GraphIndex.of(model)
    nodes = {node.name: node for node in model.graph.node}
    largest = _largest(model, [pair.tensor for pair in pairs], inputs, threads)
    arrays: dict[str, NDArray[np.float32]] = {}

    def array(name: str) -> NDArray[np.float32]:
        return arrays[name] if name in arrays else stored_floats(index, name)

    for pair in pairs:
        maker = nodes[pair.maker]
        readers = [nodes[name] for name in pair.readers]
        read = np.max([_largest_read(array(node.input[1]), _groups(node)) for node in readers], axis=0)
        scales = _scales(largest[pair.tensor], read)
        arrays[maker.input[1]] = array(maker.input[1]) / scales.reshape(-1, 1, 1, 1)
        if len(maker.input) > 2 and maker.input[2]:  # noqa: PLR2004
            arrays[maker.input[2]] = array(maker.input[2]) / scales
        for node in readers:
            weights = array(node.input[1])
            grouped = weights.reshape(_groups(node), -1, *weights.shape[1:])
            arrays[node.input[1]] = (grouped * scales.reshape(_groups(node), 1, -1, 1, 1)).reshape(weights.shape)
    return arrays


def with_initializers(model: "ModelProto", arrays: Mapping[str, NDArray[np.float32]]) -> "ModelProto":
    """Return the model with other values of some of its initializers."""
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(onnx.numpy_helper.from_array(arrays[tensor.name].astype(np.float32), tensor.name))
    return changed


def _scales(largest: NDArray[np.float32], read: NDArray[np.float32]) -> NDArray[np.float32]:
    known = (largest > 0) & (read > 0)
    ratios = np.sqrt(np.where(known, largest, 1) / np.where(known, read, 1))
    middle = float(np.exp(np.log(ratios[known]).mean())) if known.any() else 1.0
    scales: NDArray[np.float32] = np.clip(ratios / middle, 1 / _LARGEST_SCALE, _LARGEST_SCALE).astype(np.float32)
    scales[~known] = 1
    return scales


def _largest_read(weights: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """Return the largest weight of each input channel, (in,)."""
    grouped = np.abs(weights).reshape(groups, -1, weights.shape[1], weights.shape[2] * weights.shape[3])
    largest: NDArray[np.float32] = grouped.max(axis=(1, 3)).reshape(-1)
    return largest


def _largest(
    model: "ModelProto", tensors: Sequence[str], inputs: Sequence[NDArray[np.float32]], threads: int
) -> dict[str, NDArray[np.float32]]:
    """Return the largest absolute value of each channel of tensors (1, channels, rows, columns) over all inputs."""
    import onnx

    reduced = cut_at(model, tensors)
    del reduced.graph.output[:]
    for number, name in enumerate(tensors):
        sizes, output = f"{_PREFIX} size {number}", f"{_PREFIX} {number}"
        reduced.graph.node.append(onnx.helper.make_node("Abs", [name], [sizes], sizes))
        reduced.graph.node.append(onnx.helper.make_node("GlobalMaxPool", [sizes], [output], output))
        reduced.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    session = Session(reduced.SerializeToString(), threads=threads, where="calibration")
    rows = [session.run(tensor) for tensor in inputs]
    return {name: np.max([row[at].ravel() for row in rows], axis=0) for at, name in enumerate(tensors)}


def _groups(node: "NodeProto") -> int:
    return int(str(attribute_of(node, "group") or 1))


def _plain(index: GraphIndex, node: "NodeProto") -> bool:
    """Weights of two dimensions, stored, and read by nobody else."""
    dims = index.weight_dims(node)
    names = [name for name in node.input[1:] if name]
    return (
        dims is not None
        and len(dims) == 4  # noqa: PLR2004
        and all(name in index.initializers and len(index.consumers[name]) == 1 for name in names)
    )
