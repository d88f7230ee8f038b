"""Write a plan into a model: pairs of QuantizeLinear and DequantizeLinear, integer weights, integer biases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mecha.graph.index import GraphIndex
from mecha.graph.weight_only import WEIGHT_ONLY, is_weight_only
from mecha.quantize.parameters import ConvParameters, parameters_of, stored_floats
from mecha.quantize.plan import Plan
from mecha.quantize.ranges import (
    ActivationType,
    Range,
    Scheme,
    Step,
    activation_step,
    quantized_bias,
    quantized_weights,
    scales_for_bias,
    weight_scales,
)

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True, slots=True)
class Storage:
    """How integers are laid out: what the CPU multiplies fastest without error.

    Attributes:
        activations: "uint8" for x86, "int8" for ARM, whose dot products take two signed operands.
        weight_bits: 7 where the CPU would overflow 16 bits.
    """

    activations: ActivationType
    weight_bits: Literal[7, 8]
    scheme: Scheme = "uniform"


def write_pairs(
    model: "ModelProto",
    plan: Plan,
    ranges: Mapping[str, Range],
    storage: Storage,
    parameters: Mapping[str, ConvParameters] = MappingProxyType({}),
) -> "ModelProto":
    """Return the INT8 model. Its inputs, outputs and metadata are those of `model`, which is not changed.

    Args:
        model: the FP32 model, opset 13 or later.
        ranges: by root tensor of the plan.
        parameters: by Conv, what its weights and bias are to be; those of others are taken from the model, the weights
            rounded to the nearest integer.
    """
    return _Writer(model, plan, ranges, storage, parameters).write()


class _Writer:
    """One model being written: collects nodes and initializers, then puts them into a copy."""

    def __init__(
        self,
        model: "ModelProto",
        plan: Plan,
        ranges: Mapping[str, Range],
        storage: Storage,
        parameters: Mapping[str, ConvParameters],
    ) -> None:
        self._model = model
        self._index = GraphIndex.of(model)
        self._plan = plan
        self._ranges = ranges
        self._storage = storage
        self._parameters = parameters
        self._steps: dict[str, Step] = {}
        self._nodes: list[NodeProto] = []
        self._added: dict[str, NDArray[Any]] = {}
        self._dequantized: dict[str, str] = {}  # stored tensor -> the float tensor after its pair
        self._taken = self._index.producers.keys() | self._index.initializers.keys()
        self._count = 0

    def write(self) -> "ModelProto":
        import onnx

        for value in self._model.graph.input:
            if value.name in self._plan.roots:
                self._store(value.name, value.name)
        for node in self._model.graph.node:
            self._copy(node)
        written = onnx.ModelProto()
        written.CopyFrom(self._model)
        graph = written.graph
        del graph.node[:]
        del graph.initializer[:]
        del graph.value_info[:]
        graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input} | {value.name for value in graph.output}
        graph.initializer.extend(tensor for tensor in self._model.graph.initializer if tensor.name in read)
        graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in self._added.items())
        return written

    def _copy(self, node: "NodeProto") -> None:
        """Add a node, its inputs taken from after their pairs where it should, and the pairs of its outputs."""
        import onnx

        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        integer = node.name in self._plan.integer_nodes
        for position, name in enumerate(node.input):
            if name in self._dequantized and (integer or self._made_in_integers(name)):
                copy.input[position] = self._dequantized[name]
        if integer and node.op_type == "Conv":
            self._store_conv(copy, node)
        elif node.name in self._parameters:
            self._replace(copy, self._parameters[node.name])
        elif integer and node.op_type in {"Add", "Mul", "Concat"}:
            self._store_operands(copy)
        self._nodes.append(copy)
        for position, name in enumerate(node.output):
            if name not in self._plan.roots:
                continue
            if name in self._index.outputs:
                # The output keeps its name and is what the pair gives.
                copy.output[position] = self._name("raw")
                self._store(copy.output[position], name, result=name)
            else:
                self._store(name, name)

    def _made_in_integers(self, name: str) -> bool:
        node = self._index.producers.get(name)
        return node is not None and node.name in self._plan.integer_nodes

    def _name(self, suffix: str) -> str:
        """A short new name: hundreds of them are stored in the file."""
        while True:
            self._count += 1
            name = f"q{self._count}_{suffix}"
            if name not in self._taken:
                return name

    def _constant(self, array: NDArray[Any], suffix: str) -> str:
        name = self._name(suffix)
        self._added[name] = array
        return name

    def _zero_point(self, value: int, dtype: str, count: int | None = None) -> str:
        """The zero point `value`, or one for each of `count` channels; equal ones are stored once."""
        name = f"zero_{dtype}_{value}" + (f"_x{count}" if count is not None else "")
        while name in self._taken:
            name += "_"
        self._added.setdefault(name, np.array(value if count is None else [value] * count, dtype=dtype))
        return name

    def _step(self, root: str) -> Step:
        if root not in self._steps:
            self._steps[root] = activation_step(
                self._ranges[root], dtype=self._storage.activations, scheme=self._storage.scheme
            )
        return self._steps[root]

    def _store(self, source: str, stored: str, result: str | None = None) -> None:
        """Add the pair of the stored tensor after `source`."""
        step = self._step(self._plan.roots[stored])
        if stored in self._plan.guarded:
            source = self._guard(source, step)
        # Tensors that share a range share its scale too, so that it is stored once.
        scale = f"scale_{self._plan.roots[stored]}"
        self._added.setdefault(scale, np.array(step.scale, dtype=np.float32))
        zero_point = self._zero_point(step.zero_point, self._storage.activations)
        self._dequantized[stored] = self._pair(source, scale, zero_point, result)

    def _pair(self, source: str, scale: str, zero_point: str, result: str | None = None) -> str:
        import onnx

        integers = self._name("int")
        result = result or self._name("float")
        self._nodes.append(
            onnx.helper.make_node("QuantizeLinear", [source, scale, zero_point], [integers], self._name("Q"))
        )
        self._nodes.append(
            onnx.helper.make_node("DequantizeLinear", [integers, scale, zero_point], [result], self._name("DQ"))
        )
        return result

    def _guard(self, source: str, step: Step) -> str:
        """Add a Clip to all but the outermost integers: it changes next to nothing and stays in the optimized graph."""
        import onnx

        lowest = 0 if self._storage.activations == "uint8" else -128
        inner = [(lowest + 1 - step.zero_point) * step.scale, (lowest + 254 - step.zero_point) * step.scale]
        bounds = [self._constant(np.array(bound, dtype=np.float32), "bound") for bound in inner]
        result = self._name("inside")
        self._nodes.append(onnx.helper.make_node("Clip", [source, *bounds], [result], self._name("Clip")))
        return result

    def _store_conv(self, copy: "NodeProto", conv: "NodeProto") -> None:
        """Turn a Conv's weights into int8 per output channel and its bias into int32."""
        import onnx

        given = self._parameters.get(conv.name) or parameters_of(self._index, conv)
        activation = self._step(self._plan.roots[conv.input[0]]).scale
        scales = given.scales
        if scales is None:
            scales = weight_scales(given.weights, bits=self._storage.weight_bits, scheme=self._storage.scheme)
        if given.bias is not None and self._storage.scheme != "power_of_two":
            scales = scales_for_bias(scales, given.bias, activation)
        self._store_weights(copy, given.weights, scales)
        if given.bias is None:
            return
        # onnxruntime multiplies the two scales in 32 bits: the bias must be rounded by that very product.
        bias_scales = (np.float32(activation) * scales).astype(np.float32)
        inputs = [
            self._constant(quantized_bias(given.bias, bias_scales.astype(np.float64)), "bias"),
            self._constant(bias_scales, "scale"),
            self._zero_point(0, "int32", len(scales)),
        ]
        copy.input[2] = self._name("float")
        self._nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [copy.input[2]], self._name("DQ"), axis=0))

    def _replace(self, copy: "NodeProto", given: ConvParameters) -> None:
        """Give a Conv that computes in float other weights, stored as integers where they have scales, and a bias."""
        if given.scales is None:
            copy.input[1] = self._constant(given.weights, "weight")
        else:
            self._store_weights(copy, given.weights, given.scales, ending=WEIGHT_ONLY)
        if given.bias is not None:
            del copy.input[2:]
            copy.input.append(self._constant(given.bias, "bias"))

    def _store_weights(
        self, copy: "NodeProto", weights: NDArray[np.float32], scales: NDArray[np.float32], *, ending: str = ""
    ) -> None:
        import onnx

        inputs = [
            self._constant(quantized_weights(weights, scales, bits=self._storage.weight_bits), "weight"),
            self._constant(scales, "scale"),
            self._zero_point(0, "int8", len(scales)),
        ]
        copy.input[1] = self._name("float")
        name = self._name("DQ") + ending
        self._nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [copy.input[1]], name, axis=0))

    def _store_operands(self, copy: "NodeProto") -> None:
        """Store the constant operands of Add, Mul and Concat as integers too: all inputs must be of one kind."""
        import onnx

        for position, name in enumerate(copy.input):
            if name not in self._index.constants:
                continue
            values = stored_floats(self._index, name)
            spread = Range(float(values.min(initial=0)), float(values.max(initial=0)))
            step = activation_step(spread, dtype=self._storage.activations, scheme="uniform")
            limits = np.iinfo(self._storage.activations)
            integers = np.clip(np.rint(values / step.scale) + step.zero_point, limits.min, limits.max)
            inputs = [
                self._constant(integers.astype(self._storage.activations), "operand"),
                self._constant(np.array(step.scale), "scale"),
                self._zero_point(step.zero_point, self._storage.activations),
            ]
            copy.input[position] = self._name("float")
            self._nodes.append(
                onnx.helper.make_node("DequantizeLinear", inputs, [copy.input[position]], self._name("DQ"))
            )


def stored_convs(nodes: Sequence["NodeProto"]) -> tuple[str, ...]:
    """Return the names of the Convs whose weights are stored as integers, in graph order.

    Those that are float by design are not among them, however their weights are stored.
    """
    dequantized = {
        name
        for node in nodes
        if node.op_type == "DequantizeLinear" and not is_weight_only(node)
        for name in node.output
    }
    return tuple(
        node.name for node in nodes if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in dequantized
    )
