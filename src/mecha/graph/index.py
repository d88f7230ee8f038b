"""What an ONNX graph's list of nodes does not answer: who makes a tensor, who reads it, what is constant."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

# The position of the weights among the inputs.
CONV_WEIGHTS: Mapping[str, int] = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
QUANTIZING_OPS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "QLinearConv", "MatMulInteger"}
)
# These hand on the values of a constant, in another form.
_SAME_VALUES = frozenset({"DequantizeLinear", "QuantizeLinear", "Identity", "Cast"})


def inputs_of(node: "NodeProto") -> Iterator[str]:
    """Yield every tensor a node reads, those that its subgraphs take from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            made = {name for inner in graph.node for name in inner.output}
            made |= {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
            for inner in graph.node:
                yield from (name for name in inputs_of(inner) if name not in made)
            yield from (value.name for value in graph.output if value.name not in made)


def attribute_of(node: "NodeProto", name: str) -> object:
    """Return an attribute's value (int, float, bytes, list or TensorProto), or None where the node does not set it."""
    import onnx

    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)  # type: ignore[no-any-return, unused-ignore]  # untyped in onnx
    return None


def ints_of(node: "NodeProto", name: str) -> tuple[int, ...]:
    """Return a list attribute of integers, empty where the node does not set it."""
    return next((tuple(attribute.ints) for attribute in node.attribute if attribute.name == name), ())


@dataclass(frozen=True, slots=True, eq=False)
class GraphIndex:
    """A graph, indexed by tensor.

    Attributes:
        producers: the node that makes a tensor; graph inputs and initializers have none.
        consumers: the nodes that read a tensor, in graph order.
        initializers: by name.
        constants: tensors that depend on no graph input, initializers included.
        outputs: names of the graph outputs.
    """

    producers: Mapping[str, "NodeProto"]
    consumers: Mapping[str, tuple["NodeProto", ...]]
    initializers: Mapping[str, "TensorProto"]
    constants: frozenset[str]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: "ModelProto") -> "GraphIndex":
        """Index a model's main graph, whose nodes stand in topological order as ONNX demands."""
        producers: dict[str, NodeProto] = {}
        consumers: dict[str, list[NodeProto]] = {}
        initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        constants = set(initializers)
        for node in model.graph.node:
            names = list(inputs_of(node))
            if all(name in constants for name in names) and not node.op_type.startswith("Random"):
                constants.update(node.output)
            for name in dict.fromkeys(names):
                consumers.setdefault(name, []).append(node)
            producers.update({name: node for name in node.output if name})
        return cls(
            producers=producers,
            consumers={name: tuple(nodes) for name, nodes in consumers.items()},
            initializers=initializers,
            constants=frozenset(constants),
            outputs=tuple(value.name for value in model.graph.output),
        )

    def tensor(self, name: str) -> "TensorProto | None":
        """Return the values stored for a constant, through Constant, Cast and Q/DQ nodes; None where there are none."""
        while name not in self.initializers:
            node = self.producers.get(name)
            if node is None:
                return None
            if node.op_type == "Constant":
                value = attribute_of(node, "value")
                return value if hasattr(value, "dims") else None  # type: ignore[return-value]  # a TensorProto has dims
            if node.op_type not in _SAME_VALUES:
                return None
            name = node.input[0]
        return self.initializers[name]

    def array(self, name: str) -> "NDArray[np.generic] | None":
        """Return a constant's values as stored (an int8 weight stays int8), None where nothing is stored for it."""
        import onnx

        tensor = self.tensor(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def weight_dims(self, node: "NodeProto") -> tuple[int, ...] | None:
        """Return the weight shape (out, in / groups, kernel...) of a convolution, None for any other node."""
        position = CONV_WEIGHTS.get(node.op_type)
        if position is None or len(node.input) <= position:
            return None
        tensor = self.tensor(node.input[position])
        return None if tensor is None else tuple(tensor.dims)

    def downsampling(self, name: str) -> Fraction | None:
        """Return how many input pixels one cell of a feature map spans, None where no path to an input tells."""
        known: dict[str, Fraction | None] = {}
        stack = [name]
        while stack:
            tensor = stack[-1]
            node = self.producers.get(tensor)
            if tensor in known or node is None or tensor in self.constants:
                known.setdefault(tensor, None if node or tensor in self.constants else Fraction(1))
                stack.pop()
                continue
            sources = [source for source in node.input if source and source not in self.constants]
            unknown = [source for source in sources if source not in known]
            if unknown and node.op_type != "Shape":
                stack.extend(unknown)
                continue
            before = next((known[source] for source in sources if known.get(source) is not None), None)
            factor = self._factor(node)
            known[tensor] = None if before is None or factor is None else before * factor
            stack.pop()
        return known[name]

    def _factor(self, node: "NodeProto") -> Fraction | None:
        """By how much a node coarsens the map it reads; None where the graph does not say."""
        if node.op_type in {"Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool"}:
            strides = ints_of(node, "strides")
            return Fraction(strides[-1] if strides else 1)
        if node.op_type == "Resize":
            scales = self.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None  # noqa: PLR2004
            return (
                None
                if scales is None or not scales.size
                else 1 / Fraction(float(scales.flat[-1])).limit_denominator(64)
            )
        if node.op_type == "ConvTranspose":
            strides = ints_of(node, "strides")
            return 1 / Fraction(strides[-1] if strides else 1)
        if node.op_type == "SpaceToDepth":
            return Fraction(int(ints_of(node, "blocksize")[0]) if ints_of(node, "blocksize") else 2)
        if node.op_type == "Slice":
            return self._width_step(node)
        return None if node.op_type in {"Shape", "Reshape", "Flatten", "Gather"} else Fraction(1)

    def _width_step(self, node: "NodeProto") -> Fraction:
        """The step of a Slice along the width: space-to-depth stems take every second column."""
        axes, steps = (self.array(node.input[position]) if len(node.input) > position else None for position in (3, 4))
        if axes is None or steps is None:
            return Fraction(1)
        by_axis = {int(axis): int(step) for axis, step in zip(axes.flat, steps.flat, strict=True)}
        return Fraction(by_axis.get(3, by_axis.get(-1, 1)))
