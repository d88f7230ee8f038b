"""What onnxruntime really makes of an INT8 file: read from the graph it optimized, not from the plan."""

import tempfile
from pathlib import Path

from mecha.detect.session import session_options
from mecha.errors import QuantizationError
from mecha.graph.reading import load_model, parse_model
from mecha.quantize.qdq import stored_convs

_INTEGER_CONVS = frozenset({"QLinearConv", "ConvInteger"})


def float_convs(int8: bytes) -> tuple[str, ...]:
    """Return the Convs whose weights the file stores as integers but which onnxruntime runs in float.

    Args:
        int8: bytes of an INT8 file with QuantizeLinear and DequantizeLinear pairs.

    Raises:
        IntegrityError: the bytes are no ONNX model.
        QuantizationError: onnxruntime cannot load it.
    """
    model = parse_model(int8, where="INT8 model")
    kinds = optimized_kinds(int8)
    return tuple(name for name in stored_convs(model.graph.node) if kinds.get(name) not in _INTEGER_CONVS)


def requantized_convs(int8: bytes) -> tuple[str, ...]:
    """Return the Convs whose weights the file keeps as floats but which onnxruntime turned into integer ones itself."""
    model = parse_model(int8, where="INT8 model")
    stored = set(stored_convs(model.graph.node))
    kinds = optimized_kinds(int8)
    floats = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name not in stored]
    return tuple(name for name in floats if kinds.get(name) in _INTEGER_CONVS)


def optimized_kinds(int8: bytes) -> dict[str, str]:
    """Return the operator that each node has become, by node name, after onnxruntime's portable optimizations.

    Raises:
        QuantizationError: onnxruntime cannot load the model.
    """
    import onnxruntime

    options = session_options(1)
    # One level below what runs: the last level only changes the layout, and gives nodes names of its own.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
        except (RuntimeError, ValueError) as error:
            raise QuantizationError(f"onnxruntime cannot load the INT8 model: {str(error).splitlines()[0]}") from error
        optimized = load_model(path)
    return {node.name: node.op_type for node in optimized.graph.node}
