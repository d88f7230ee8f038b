"""Which nodes run in INT8 and which tensors are stored as integers: decided on the graph alone, before any frame."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mecha.errors import ConfigError
from mecha.graph.cut import find_tail
from mecha.graph.index import GraphIndex, inputs_of
from mecha.words import nearest

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Besides Conv, onnxruntime has integer kernels for these on the CPU. It has them for MatMul and Softmax too, but
# attention stays float: it is a few percent of the work, and yolo11n runs faster so.
_JOINING_OPS = frozenset({"Sigmoid", "LeakyRelu", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool"})
# These hand values on: one scale and zero point before and after, or onnxruntime computes them in float.
PASSING_OPS = frozenset(
    {"MaxPool", "Resize", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "Slice", "Flatten", "Identity"}
)
# onnxruntime drops these where the range of the tensor after them says the same.
CLIPPING_OPS = frozenset({"Relu", "Clip"})
_ACTIVATIONS = CLIPPING_OPS | {"LeakyRelu", "PRelu", "Elu", "HardSwish", "Tanh", "Gelu", "Mish"}
_GATES = frozenset({"Sigmoid", "HardSigmoid"})
# Their values lie between 0 and 1 whatever the frame.
UNIT_OPS = frozenset({"Sigmoid", "Softmax", "HardSigmoid"})
_WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of each node and tensor.

    Attributes:
        integer_nodes: names of the nodes that run in INT8.
        float_convs: names of the Convs that stay float, in graph order.
        roots: by stored tensor, the tensor whose range it shares; a tensor that shares none is its own root.
        guarded: stored tensors that need float edges before them: onnxruntime would take the float Conv that makes them
            for an integer one and quantize its weights by itself.
        unit: roots whose values lie between 0 and 1.
        gated: roots that only a SiLU reads, which makes almost nothing of anything far below zero.
    """

    integer_nodes: frozenset[str]
    float_convs: tuple[str, ...]
    roots: dict[str, str]
    guarded: frozenset[str]
    unit: frozenset[str]
    gated: frozenset[str]

    @property
    def observed(self) -> tuple[str, ...]:
        """The tensors whose range calibration must find."""
        return tuple(sorted(set(self.roots.values()) - self.unit))


class Planner:
    """Decides what runs in INT8, for one model and as often as asked.

    Args:
        model: opset 13 or later.
    """

    def __init__(self, model: "ModelProto") -> None:
        self._model = model
        self._by_name = {node.name: node for node in model.graph.node}
        self._floats = _float_tensors(model)
        self.index = GraphIndex.of(model)
        self.tail = find_tail(model)
        self._stem = _stem(model, self.index)

    def plan(
        self,
        *,
        exclude_nodes: Sequence[str] = (),
        truncate: Sequence[str] = (),
        leave_float: Sequence[str] = (),
        absorb: bool = True,
    ) -> Plan:
        """Decide what runs in INT8.

        Float stay: the decode tail and the last Convs, everything up to the first Conv and its activation, what follows
        the tensors of `truncate`, the nodes of `exclude_nodes`, the Convs of `leave_float` with their activations.

        Args:
            absorb: let the range after a Relu or Clip do its work; only a range that may begin at zero can.

        Raises:
            ConfigError: a name is not in the model.
        """
        model, index = self._model, self.index
        _check_names(model, index, exclude_nodes=exclude_nodes, truncate=truncate, leave_float=leave_float)
        kept = set(self.tail.nodes) | set(self.tail.last_convs) | self._stem | set(exclude_nodes)
        kept |= _downstream(index, truncate)
        for name in leave_float:
            kept |= {name, *(node.name for node in activation_of(index, self._by_name[name]))}
        candidates = [
            node for node in model.graph.node if node.name not in kept and _has_float_output(node, self._floats)
        ]
        integer, absorbed = _integer_nodes(index, candidates, absorb=absorb)
        passing = [node for node in candidates if node.op_type in PASSING_OPS]
        roots = _share(index, _stored_tensors(model, index, integer, absorbed), passing)
        integer |= absorbed | {node.name for node in passing if node.output[0] in roots}
        return Plan(
            integer_nodes=frozenset(integer),
            float_convs=tuple(
                node.name for node in model.graph.node if node.op_type == "Conv" and node.name not in integer
            ),
            roots=roots,
            guarded=frozenset(_guarded(index, roots, integer)),
            unit=frozenset(root for root in roots.values() if _op_of(index, root) in UNIT_OPS),
            gated=frozenset(root for root in roots.values() if _feeds_silu(index, root)),
        )


def activation_of(index: GraphIndex, node: "NodeProto") -> tuple["NodeProto", ...]:
    """Return the activation that follows a node: one node, or a gate and the Mul it opens (SiLU); empty for none."""
    readers = index.consumers.get(node.output[0], ())
    if node.output[0] in index.outputs:
        return ()
    if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS:
        return readers
    gates = [node for node in readers if node.op_type in _GATES]
    products = [node for node in readers if node.op_type == "Mul"]
    if len(readers) == len(gates) + len(products) == 2 and gates[0].output[0] in products[0].input:  # noqa: PLR2004
        return gates[0], products[0]
    return ()


def _feeds_silu(index: GraphIndex, name: str) -> bool:
    node = index.producers.get(name)
    return node is not None and [after.op_type for after in activation_of(index, node)] == ["Sigmoid", "Mul"]


def _check_names(
    model: "ModelProto",
    index: GraphIndex,
    *,
    exclude_nodes: Iterable[str],
    truncate: Iterable[str],
    leave_float: Iterable[str],
) -> None:
    nodes = [node.name for node in model.graph.node]
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    options = (
        ("exclude_nodes", "node", exclude_nodes, nodes),
        ("truncate", "tensor", truncate, list(index.producers)),
        ("leave_float", "Conv", leave_float, convs),
    )
    faults = []
    for option, kind, names, known in options:
        for name in names:
            if name not in known:
                closest = nearest(name, known)
                end = f'; did you mean "{closest}"?' if closest else ""
                faults.append(f'{option}: got "{name}"; expected the name of a {kind} of the model{end}')
    if faults:
        raise ConfigError("\n".join(faults), hint="A viewer such as Netron shows the names in an ONNX file.")


def _stem(model: "ModelProto", index: GraphIndex) -> set[str]:
    """Everything from the inputs up to the first Convs and their activations: few channels make a slow integer Conv."""
    found: set[str] = set()
    stack = [value.name for value in model.graph.input if value.name not in index.initializers]
    while stack:
        for node in index.consumers.get(stack.pop(), ()):
            if node.name in found:
                continue
            found.add(node.name)
            if node.op_type == "Conv":
                found.update(after.name for after in activation_of(index, node))
            else:
                stack.extend(node.output)
    return found


def _downstream(index: GraphIndex, tensors: Iterable[str]) -> set[str]:
    found: set[str] = set()
    stack = list(tensors)
    while stack:
        for node in index.consumers.get(stack.pop(), ()):
            if node.name not in found:
                found.add(node.name)
                stack.extend(node.output)
    return found


def _float_tensors(model: "ModelProto") -> set[str]:
    """The tensors of 32-bit floats; sizes and indices are integers already and no business of ours."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model)
    values = (*shaped.graph.input, *shaped.graph.value_info, *shaped.graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}


def _has_float_output(node: "NodeProto", floats: set[str]) -> bool:
    return bool(node.output) and node.output[0] in floats


def _integer_nodes(index: GraphIndex, candidates: Sequence["NodeProto"], *, absorb: bool) -> tuple[set[str], set[str]]:
    """Return the nodes that compute in integers, and the Relus and Clips that their ranges absorb.

    A Conv starts an integer region; anything else joins it only where one of its inputs is integer already.
    """
    integer: set[str] = set()
    absorbed: set[str] = set()
    made: set[str] = set()
    for node in candidates:
        reads = [name for name in inputs_of(node) if name not in index.constants]
        starts = node.op_type == "Conv" and _has_stored_weights(index, node)
        if starts or (node.op_type in _JOINING_OPS and made.intersection(reads)):
            integer.add(node.name)
        elif absorb and _is_absorbed(index, node, integer):
            absorbed.add(node.name)
        elif node.op_type not in PASSING_OPS or not made.intersection(reads[:1]):
            continue
        made.update(node.output)
    return integer, absorbed


def _has_stored_weights(index: GraphIndex, conv: "NodeProto") -> bool:
    return all(name in index.initializers or _op_of(index, name) == "Constant" for name in conv.input[1:] if name)


def _is_absorbed(index: GraphIndex, node: "NodeProto", integer: set[str]) -> bool:
    """Whether a Relu or Clip follows an integer Conv that nobody else reads: the range after it does its work."""
    if node.op_type not in CLIPPING_OPS or node.input[0] in index.outputs:
        return False
    conv = index.producers.get(node.input[0])
    alone = len(index.consumers.get(node.input[0], ())) == 1
    return alone and conv is not None and conv.op_type == "Conv" and conv.name in integer


def _stored_tensors(model: "ModelProto", index: GraphIndex, integer: set[str], absorbed: set[str]) -> set[str]:
    """What integer nodes read and make; what lies between a Conv and its absorbed Relu is not stored."""
    inner = {node.input[0] for node in model.graph.node if node.name in absorbed}
    found: set[str] = set()
    for node in model.graph.node:
        if node.name in absorbed:
            found.add(node.output[0])
        elif node.name in integer:
            reads = node.input[:1] if node.op_type == "Conv" else node.input
            found.update(name for name in reads if name and name not in index.constants)
            found.add(node.output[0])
    return found - inner


def _share(index: GraphIndex, stored: set[str], passing: Sequence["NodeProto"]) -> dict[str, str]:
    """Spread the stored tensors along nodes that hand values on; each shares the range of the first in its chain."""
    grown = True
    while grown:
        before = len(stored)
        for node in passing:
            chain = {node.input[0], *node.output}
            if chain & stored and node.input[0] not in index.constants:
                stored |= chain
        grown = len(stored) > before
    source = {name: node.input[0] for node in passing for name in node.output if name in stored}
    roots = {}
    for name in sorted(stored):
        root = name
        while root in source:
            root = source[root]
        roots[name] = root
    return roots


def _guarded(index: GraphIndex, roots: dict[str, str], integer: set[str]) -> Iterable[str]:
    for name in roots:
        node = index.producers.get(name)
        while node is not None and node.name not in integer and node.op_type in PASSING_OPS | CLIPPING_OPS:
            node = index.producers.get(node.input[0])
        if node is None or node.name in integer or node.op_type not in _WEIGHTED_OPS:
            continue
        read = node.input[0]
        while read not in roots and _op_of(index, read) in PASSING_OPS:
            read = index.producers[read].input[0]
        if read in roots:
            yield name


def _op_of(index: GraphIndex, name: str) -> str:
    node = index.producers.get(name)
    return "" if node is None else node.op_type
