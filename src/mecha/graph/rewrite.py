"""A graph while some of its nodes are replaced by others."""

from typing import TYPE_CHECKING

import numpy as np

from mecha.graph.index import GraphIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

# (N, C, H, W).
_MAP_RANK = 4


class Rewrite:
    """What is known of a graph, and what is to stand in it.

    Args:
        model: changed by `store`, and by `finish`; its nodes have names.

    Attributes:
        index: of the graph as it was given.
    """

    def __init__(self, model: "ModelProto") -> None:
        self._model = model
        self.index = GraphIndex.of(model)
        self._maps = _maps_of(model)
        self._instead: dict[str, Sequence[NodeProto]] = {}
        graph = model.graph
        self._places = {node.name: place for place, node in enumerate(graph.node)}
        self._taken = {name for node in graph.node for name in (node.name, *node.output)}
        self._taken.update(tensor.name for tensor in graph.initializer)
        self._taken.update(value.name for value in graph.input)

    def map_of(self, tensor: str) -> tuple[int, int, int]:
        """Return channels, height and width of a feature map; 0 for what is not known."""
        return self._maps.get(tensor, (0, 0, 0))

    def in_order(self, nodes: "Iterable[NodeProto]") -> "list[NodeProto]":
        """Return nodes of the graph in the order they stand in."""
        return sorted(nodes, key=lambda node: self._places[node.name])

    def weights(self, conv: "NodeProto") -> "NDArray[np.float32] | None":
        """Return the weights (out, in / groups, kernel...) of a Conv where they are stored as float32."""
        values = self.index.array(conv.input[1])
        if conv.input[1] not in self.index.initializers or values is None or values.dtype != np.float32:
            return None
        return values.astype(np.float32, copy=False)

    def bias(self, conv: "NodeProto") -> "NDArray[np.float32] | None":
        """Return the bias (out,) of a Conv; None where it has none."""
        values = self.index.array(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None  # noqa: PLR2004
        return None if values is None else values.astype(np.float32, copy=False)

    def has_known_bias(self, conv: "NodeProto") -> bool:
        """Say whether the bias of a Conv is stored, or there is none."""
        return len(conv.input) < 3 or not conv.input[2] or self.bias(conv) is not None  # noqa: PLR2004

    def free_name(self, wanted: str) -> str:
        """Return a name that no node and no tensor has, and take it."""
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted

    def store(self, name: str, values: "NDArray[np.float32]") -> str:
        """Add a constant; return what it is called."""
        import onnx

        name = self.free_name(name)
        self._model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def store_integers(self, name: str, values: "Sequence[int]") -> str:
        """Add a constant list of int64; return what it is called."""
        import onnx

        name = self.free_name(name)
        self._model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def node(self, op_type: str, inputs: "Sequence[str]", name: str) -> "NodeProto":
        """Return a node without attributes. Its output is called like the node."""
        import onnx

        name = self.free_name(name)
        return onnx.helper.make_node(op_type, inputs, [name], name)

    def copy(self, node: "NodeProto", inputs: "Sequence[str]", name: str) -> "NodeProto":
        """Return a node of one output that does the same to other tensors."""
        import onnx

        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.name = self.free_name(name)
        copied.input[:] = inputs
        copied.output[:] = [copied.name]
        return copied

    def conv(
        self,
        like: "NodeProto",
        source: str,
        weights: "NDArray[np.float32]",
        bias: "NDArray[np.float32] | None",
        name: str,
    ) -> "NodeProto":
        """Return a Conv with the strides and pads of another, and weights of its own."""
        inputs = [source, self.store(f"{name}.weight", weights)]
        if bias is not None:
            inputs.append(self.store(f"{name}.bias", bias))
        return self.copy(like, inputs, name)

    def put(self, node: "NodeProto", instead: "Sequence[NodeProto]") -> None:
        """Let other nodes stand where one stood. Together they make every output of it that is read."""
        self._instead[node.name] = instead

    def finish(self) -> bool:
        """Write the new nodes, and drop what nothing reads any more; say whether anything was replaced."""
        if not self._instead:
            return False
        graph = self._model.graph
        needed = {value.name for value in graph.output}
        kept: list[NodeProto] = []
        nodes = [new for node in graph.node for new in self._instead.get(node.name, (node,))]
        for node in reversed(nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        del graph.node[:]
        graph.node.extend(reversed(kept))
        stored = [tensor for tensor in graph.initializer if tensor.name in needed]
        del graph.initializer[:]
        graph.initializer.extend(stored)
        del graph.value_info[:]
        return True


def _maps_of(model: "ModelProto") -> dict[str, tuple[int, int, int]]:
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model)
    maps = {}
    for value in (*shaped.graph.input, *shaped.graph.value_info, *shaped.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == _MAP_RANK:
            maps[value.name] = (dims[1].dim_value, dims[2].dim_value, dims[3].dim_value)
    return maps
