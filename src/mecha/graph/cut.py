"""Where a detector's decode tail begins, found by structure, and the cut before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mecha.errors import ConfigError
from mecha.graph.index import CONV_WEIGHTS, QUANTIZING_OPS, GraphIndex, inputs_of
from mecha.words import nearest

if TYPE_CHECKING:
    from fractions import Fraction

    from onnx import ModelProto, NodeProto

# Between Softmax and the convolution that takes its expectation stand only these.
_RESHAPING = frozenset(
    {"Transpose", "Reshape", "Identity", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
)
_DFL_DIMS = 4


@dataclass(frozen=True, slots=True)
class DecodeTail:
    """Everything after the last weight-bearing Conv of each output branch.

    Attributes:
        boundary: tensors that enter the tail, one a branch, in the order the outputs read them.
        last_convs: names of the nodes that make them.
        nodes: names of the nodes of the tail; the last convs are not among them.
    """

    boundary: tuple[str, ...]
    last_convs: tuple[str, ...]
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Yolov8Head:
    """The tensors that enter a YOLOv8-style decode tail, finest level first.

    Attributes:
        boxes: a tensor a level, (1, 4 * reg_max, H, W): for each side (left, top, right, bottom) the logits
            of 0 .. reg_max - 1 cells.
        scores: a tensor a level, (1, class_count, H, W): class logits.
    """

    boxes: tuple[str, ...]
    scores: tuple[str, ...]
    reg_max: int
    class_count: int


def find_tail(model: "ModelProto") -> DecodeTail:
    """Walk back from the outputs to the last weight-bearing Conv of each branch. The DFL conv belongs to the tail."""
    index = GraphIndex.of(model)
    results = {_conv_result(index, node): node for node in model.graph.node if _bears_weights(index, node)}
    boundary: dict[str, str] = {}
    tail: set[str] = set()
    stack = list(reversed(index.outputs))
    while stack:
        name = stack.pop()
        if name in results:
            boundary.setdefault(name, results[name].name)
            continue
        node = index.producers.get(name)
        if node is None or node.name in tail:
            continue
        tail.add(node.name)
        if node.op_type != "Shape":  # a size that the tail reads is no value that flows through it
            stack.extend(source for source in reversed(list(inputs_of(node))) if source not in index.constants)
    return DecodeTail(tuple(boundary), tuple(boundary.values()), frozenset(tail))


def _bears_weights(index: GraphIndex, node: "NodeProto") -> bool:
    return index.weight_dims(node) is not None and not is_dfl_conv(index, node)


def is_dfl_conv(index: GraphIndex, node: "NodeProto") -> bool:
    """Say whether a Conv takes the expectation of a distribution: weights 1xC behind a Softmax."""
    dims = index.weight_dims(node)
    if dims is None or len(dims) != _DFL_DIMS or dims[0] != 1 or dims[2:] != (1, 1):
        return False
    source = index.producers.get(node.input[0])
    while source is not None and source.op_type in _RESHAPING:
        source = index.producers.get(source.input[0])
    return source is not None and source.op_type == "Softmax"


def _conv_result(index: GraphIndex, node: "NodeProto") -> str:
    """The tensor that holds a convolution's result: ConvInteger's is the float one after Cast, Mul and the bias."""
    name: str = node.output[0]
    if node.op_type != "ConvInteger":
        return name
    for op_type in ("Cast", "Mul", "Add"):
        readers = index.consumers.get(name, ())
        if len(readers) != 1 or readers[0].op_type != op_type:
            break
        if op_type == "Add" and not any(other in index.constants for other in readers[0].input):
            break
        name = readers[0].output[0]
    return name


def find_yolov8_head(model: "ModelProto") -> Yolov8Head | None:
    """Split the boundary into boxes and class scores by level.

    Returns None for any other head, and where the tail itself is quantized: cut before it, such a file would give
    what no other tool gets from it.
    """
    index = GraphIndex.of(model)
    tail = find_tail(model)
    nodes = [node for node in model.graph.node if node.name in tail.nodes]
    softmaxes = [node for node in nodes if node.op_type == "Softmax"]
    dfl = next((node for node in nodes if is_dfl_conv(index, node)), None)
    if len(index.outputs) != 1 or not softmaxes or dfl is None or any(node.op_type in QUANTIZING_OPS for node in nodes):
        return None
    reg_max = (index.weight_dims(dfl) or (1, 0))[1]
    channels = dict(zip(tail.boundary, _channels(index, model, tail), strict=True))
    levels: dict[Fraction, list[str]] = {}
    for name in tail.boundary:
        factor = index.downsampling(name)
        if factor is None:
            return None
        levels.setdefault(factor, []).append(name)
    to_softmax = _reached(index, [name for node in softmaxes for name in node.input], frozenset(tail.boundary))
    pairs = [_split_level(index, names, channels, to_softmax, 4 * reg_max) for _, names in sorted(levels.items())]
    split = [pair for pair in pairs if pair is not None]
    class_counts = {channels[scores] for _, scores in split}
    if len(split) != len(pairs) or len(class_counts) != 1:
        return None
    return Yolov8Head(
        boxes=tuple(boxes for boxes, _ in split),
        scores=tuple(scores for _, scores in split),
        reg_max=reg_max,
        class_count=class_counts.pop(),
    )


def _channels(index: GraphIndex, model: "ModelProto", tail: DecodeTail) -> list[int]:
    convs = {node.name: node for node in model.graph.node if node.op_type in CONV_WEIGHTS}
    return [(index.weight_dims(convs[name]) or (0,))[0] for name in tail.last_convs]


def _reached(index: GraphIndex, names: Sequence[str], until: frozenset[str]) -> frozenset[str]:
    """Which tensors of `until` flow into `names`."""
    found: set[str] = set()
    seen: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in until:
            found.add(name)
            continue
        node = index.producers.get(name)
        if node is not None and node.op_type != "Shape":
            stack.extend(inputs_of(node))
    return frozenset(found)


def _split_level(
    index: GraphIndex, names: list[str], channels: dict[str, int], to_softmax: frozenset[str], box_channels: int
) -> tuple[str, str] | None:
    """Return (boxes, scores) of one level, None where it is not made of just these two."""
    if len(names) != 2:  # noqa: PLR2004 - boxes and scores
        return None
    boxes = [name for name in names if name in to_softmax and channels[name] == box_channels]
    if len(boxes) == 2:  # noqa: PLR2004
        # Both run through one Concat and are split again after it: boxes stand first, as the output demands.
        reader = index.consumers[names[0]][0]
        boxes = [name for name in reader.input if name in names][:1]
    if len(boxes) != 1:
        return None
    return boxes[0], next(name for name in names if name != boxes[0])


def cut_at(model: "ModelProto", tensors: Sequence[str]) -> "ModelProto":
    """Return the part of a model that makes `tensors`, which become its outputs in the order given.

    Inputs, opset and metadata stay; what only the rest needed is left out. The model given is not changed.

    Raises:
        ConfigError: the model has no such tensor.
    """
    import onnx

    index = GraphIndex.of(model)
    known = index.producers.keys() | index.initializers.keys() | {value.name for value in model.graph.input}
    for name in tensors:
        if name not in known:
            closest = nearest(name, known)
            raise ConfigError(
                f"{name}: no such tensor in the model" + (f"; did you mean {closest}?" if closest else ""),
                hint="Open the model in a viewer such as Netron to see its tensor names.",
            )
    needed: set[str] = set()
    stack = list(tensors)
    while stack:
        name = stack.pop()
        if name in needed:
            continue
        needed.add(name)
        node = index.producers.get(name)
        if node is not None:
            stack.extend(inputs_of(node))
    typed = {value.name: value for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
    cut = onnx.ModelProto()
    cut.CopyFrom(_without_graph(model))
    graph = cut.graph
    graph.name = model.graph.name
    graph.node.extend(node for node in model.graph.node if needed.intersection(node.output))
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    graph.input.extend(model.graph.input)
    for name in tensors:
        untyped = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        graph.output.append(typed.get(name, untyped))
    return cut


def _without_graph(model: "ModelProto") -> "ModelProto":
    """Everything of a model but its graph: versions, opsets, functions, metadata."""
    import onnx

    header = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(header, field.name).extend(value)
        else:
            setattr(header, field.name, value)
    return header
