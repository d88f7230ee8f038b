"""INT8 by `quantize_dynamic`: integer weights, activations quantized anew in each run. No calibration."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mecha.errors import QuantizationError
from mecha.graph.cut import find_tail
from mecha.graph.prepare import to_opset
from mecha.quantize.built import Built
from mecha.quantize.needs import require_onnx_quantization
from mecha.quantize.static import load_float_model
from mecha.store.atomic import write_file

_OPSET = 11  # the first with DynamicQuantizeLinear


def build_dynamic(fp32: Path, target: Path) -> Built:
    """Write a dynamic INT8 model: weights as uint8, convolutions as ConvInteger.

    onnxruntime's ConvInteger takes uint8 weights only. The Convs of the decode tail stay float: they are no work, and
    rounding what they read moves boxes.

    Args:
        fp32: the FP32 file.
        target: where the INT8 file appears, whole or not at all.

    Raises:
        QuantizationError: the model is quantized already, or onnxruntime cannot convert it.
    """
    require_onnx_quantization()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = to_opset(load_float_model(fp32), _OPSET)
    tail = find_tail(model)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "int8.onnx"
        try:
            with _quiet_root_logger():
                quantize_dynamic(
                    model,
                    written,
                    weight_type=QuantType.QUInt8,
                    nodes_to_exclude=sorted(tail.nodes),
                    extra_options={"EnableSubgraph": False},
                )
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            # The converter raises whatever went wrong inside it; all of it means that this model cannot be converted.
            raise QuantizationError(
                f"{fp32.name}: onnxruntime cannot make dynamic INT8 of it: {error}",
                hint='Use method = "static_int8".',
            ) from error
        int8 = onnx.load_model(written)
    del int8.metadata_props[:]
    int8.metadata_props.extend(model.metadata_props)
    del int8.graph.value_info[:]
    write_file(target, int8.SerializeToString())
    left = tuple(node.name for node in int8.graph.node if node.op_type == "Conv")
    return Built("dynamic_int8", left)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep the converter's advice to preprocess the model from the root logger: there is nothing the user should do."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.setLevel(logging.ERROR)
    if not handlers:
        root.addHandler(logging.NullHandler())
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
