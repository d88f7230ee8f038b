"""Make a model ready for a session or for the quantizer: a fixed input size, folded shape arithmetic, a newer opset."""

from typing import TYPE_CHECKING

from mecha.errors import UnsupportedModelError
from mecha.graph.cut import cut_at
from mecha.graph.index import GraphIndex, inputs_of
from mecha.graph.reading import load_model, name_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, ValueInfoProto

__all__ = ["fix_input_shape", "fix_input_size", "load_model", "to_opset"]

_IMAGE_RANK = 4


def fix_input_size(model: "ModelProto", height: int, width: int) -> "ModelProto":
    """Return the model for one image of height x width pixels, its shape arithmetic folded into constants.

    Names of nodes and tensors stay. The model given is not changed; one that has this size already comes back folded.

    Raises:
        UnsupportedModelError: the model takes another size only, cannot work with this one, or is newer than the
            installed onnx.
    """
    return fix_input_shape(model, (1, 3, height, width))


def fix_input_shape(model: "ModelProto", shape: tuple[int, ...]) -> "ModelProto":
    """Return the model for inputs of one shape, as `fix_input_size` does; inputs of another rank stay as they are.

    Raises:
        UnsupportedModelError: as there.
    """
    import onnx

    _require_known_opset(model)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    stored = {tensor.name for tensor in fixed.graph.initializer}
    for value in fixed.graph.input:
        if value.name not in stored:
            _fix_shape(value, shape)
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    while True:  # each round folds nodes away: what a shape decided lets the next shapes be known
        try:
            shaped = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise UnsupportedModelError(
                f"the model cannot run on {_size_words(shape)}: {_first_line(error)}",
                hint="Use a size that is a multiple of the model's stride.",
            ) from error
        if not _fold(fixed, _known_shapes(shaped)):
            del fixed.graph.output[:]
            fixed.graph.output.extend(shaped.graph.output)
            return fixed


def _size_words(shape: tuple[int, ...]) -> str:
    if len(shape) == _IMAGE_RANK:
        return f"{shape[-1]}x{shape[-2]} pixels"
    return f"an input of {'x'.join(map(str, shape))}"


def _fix_shape(value: "ValueInfoProto", wanted: tuple[int, ...]) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(wanted):
        return
    sizes = tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims)
    if any(size not in {0, want} for size, want in zip(sizes, wanted, strict=True)):
        takes = "x".join(str(size) if size else "any" for size in sizes)
        raise UnsupportedModelError(
            f"input {value.name}: got size {'x'.join(map(str, wanted))}; expected {takes}, all that this model takes"
        )
    for dim, want in zip(dims, wanted, strict=True):
        dim.dim_value = want


def _known_shapes(model: "ModelProto") -> dict[str, tuple[int, ...]]:
    """The tensors whose whole shape is known."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    return shapes


def _fold(model: "ModelProto", shapes: dict[str, tuple[int, ...]]) -> bool:
    """Replace Shape nodes of known shapes, and what follows from them alone, by constants, in place.

    Returns whether anything was folded. Weights behind DequantizeLinear stay the integers they are.
    """
    import numpy as np
    import onnx

    graph = model.graph
    values: list[onnx.TensorProto] = []
    shape_nodes = {
        node.output[0] for node in graph.node if node.op_type in {"Shape", "Size"} and node.input[0] in shapes
    }
    known = GraphIndex.of(model).constants | shape_nodes
    foldable: list[NodeProto] = []
    for node in graph.node:
        if node.output[0] in shape_nodes or (
            node.op_type not in {"DequantizeLinear", "QuantizeLinear"}
            and all(name in known for name in inputs_of(node))
        ):
            foldable.append(node)
            known |= set(node.output)
    if not foldable:
        return False
    folded = {name for node in foldable for name in node.output}
    kept = [node for node in graph.node if not folded.intersection(node.output)]
    wanted = {name for node in kept for name in inputs_of(node)} | {value.name for value in graph.output}
    frontier = sorted(wanted & folded)
    for name, array in zip(frontier, _evaluate(model, frontier, shapes), strict=True):
        values.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(values)
    _drop_unread(model)
    return True


def _evaluate(model: "ModelProto", tensors: list[str], shapes: dict[str, tuple[int, ...]]) -> "Iterable[object]":
    """Compute tensors that depend on constants and on the shapes of other tensors only."""
    import numpy as np
    import onnx
    import onnxruntime

    if not tensors:
        return []
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for node in part.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            _freeze_shape(node, shapes[node.input[0]])
        elif node.op_type == "Size" and node.input[0] in shapes:
            _freeze_constant(node, np.array(int(np.prod(shapes[node.input[0]])), dtype=np.int64))
    part = cut_at(part, tensors)
    del part.graph.input[:]
    del part.graph.output[:]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(tensors, {}))


def _freeze_shape(node: "NodeProto", shape: tuple[int, ...]) -> None:
    import numpy as np

    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    start, end = bounds.get("start", 0), bounds.get("end", len(shape))
    _freeze_constant(node, np.array(shape[start:end], dtype=np.int64))


def _freeze_constant(node: "NodeProto", value: "NDArray[np.int64]") -> None:
    """Turn a node into a Constant, in place."""
    import onnx

    node.op_type = "Constant"
    del node.input[:]
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(value)))


def _drop_unread(model: "ModelProto") -> None:
    """Leave out nodes and initializers that no output needs, in place."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(inputs_of(node))
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def to_opset(model: "ModelProto", minimum: int = 13) -> "ModelProto":
    """Return the model in opset `minimum`, or as it is where it is as new already.

    Names, inputs, outputs and metadata stay.

    Raises:
        UnsupportedModelError: an operator cannot be converted, or the model is newer than the installed onnx.
    """
    import onnx

    opset = _require_known_opset(model)
    if opset >= minimum:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, minimum)
    except (onnx.version_converter.ConvertError, RuntimeError, ValueError) as error:
        raise UnsupportedModelError(
            f"got a model of opset {opset}; expected opset {minimum} or later, and it cannot be converted: "
            f"{_first_line(error)}",
            hint=f"Export the model again with opset {minimum}.",
        ) from error
    for field in ("input", "output"):
        del getattr(converted.graph, field)[:]
        getattr(converted.graph, field).extend(getattr(model.graph, field))
    del converted.graph.value_info[:]
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    converted.producer_name, converted.producer_version = model.producer_name, model.producer_version
    name_nodes(converted.graph)
    return converted


def _require_known_opset(model: "ModelProto") -> int:
    """Return the opset of a model that the installed onnx can compute shapes of."""
    import onnx

    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UnsupportedModelError(
            f"got a model of opset {opset}; expected at most {newest}, the newest that onnx {onnx.__version__} knows",
            hint=f"Export the model again with opset {min(newest, 17)}, or install a newer onnx: "
            "pip install --upgrade onnx.",
        )
    return opset


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
