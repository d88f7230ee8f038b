"""Whether a whole model can be run here at all: its versions of ONNX, and its weights."""

from typing import TYPE_CHECKING

from mecha.errors import UnsupportedModelError
from mecha.graph.index import GraphIndex, inputs_of

if TYPE_CHECKING:
    from onnx import ModelProto

    from mecha.graph.inspect import ModelSignature

# onnxruntime promises to run this one and later ones.
OLDEST_OPSET = 7
# The format of the file itself; every onnxruntime that mecha runs on reads this one.
_SAFE_IR_VERSION = 7
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_NEWEST_TRIED = 60
_EXPORT_HINT = "Export the model again with {what}, or install a newer onnxruntime: pip install --upgrade onnxruntime."


def require_finite_weights(model: "ModelProto", *, where: str) -> None:
    """Refuse a model whose layers multiply with what is no number.

    Other constants may be infinite: a mask is.

    Raises:
        UnsupportedModelError: a weight or bias holds NaN or infinity.
    """
    import numpy as np

    index = GraphIndex.of(model)
    for node in model.graph.node:
        if node.op_type not in _WEIGHTED:
            continue
        for name in inputs_of(node):
            values = index.array(name)
            if values is None or values.dtype.kind != "f" or np.isfinite(values).all():
                continue
            what = "NaN" if np.isnan(values).any() else "infinity"
            raise UnsupportedModelError(
                f"{where}: weights {name} of {node.name}: got {what}; expected numbers",
                hint="The training diverged, or an export to half precision overflowed; "
                "export the model again, in float32.",
            )


def runtime_is_there() -> bool:
    """Tell whether anything can be tried here; a device where onnxruntime is broken still gets its files."""
    try:
        import onnxruntime  # noqa: F401 - asked for
    except ImportError:
        return False
    return True


def require_known_versions(signature: "ModelSignature", *, where: str) -> None:
    """Refuse a model that is newer than the installed onnxruntime; a model of two tensors tells.

    Raises:
        UnsupportedModelError: its opset, or the format of its file, is too new.
    """
    opset, ir_version = signature.opset, signature.ir_version
    if not opset or not ir_version or _runs(opset, ir_version):
        return
    import onnxruntime

    installed = f"onnxruntime {onnxruntime.__version__}"
    if not _runs(opset, _SAFE_IR_VERSION):
        newest = next((number for number in range(min(opset, _NEWEST_TRIED), 0, -1) if _runs(number, 7)), 0)
        raise UnsupportedModelError(
            f"{where}: got opset {opset}; expected at most {newest}, the newest that {installed} runs",
            hint=_EXPORT_HINT.format(what=f"opset {min(newest, 17)}"),
        )
    newest = next((number for number in range(min(ir_version, _NEWEST_TRIED), 0, -1) if _runs(opset, number)), 0)
    raise UnsupportedModelError(
        f"{where}: got IR version {ir_version}; expected at most {newest}, the newest that {installed} reads",
        hint=_EXPORT_HINT.format(what="an older onnx package"),
    )


def too_old(signature: "ModelSignature", *, where: str) -> UnsupportedModelError:
    """Return the refusal of a model that onnxruntime does not load and that is older than it promises to run."""
    return UnsupportedModelError(
        f"{where}: got opset {signature.opset}; expected {OLDEST_OPSET} or later, the oldest that onnxruntime runs",
        hint="Export the model again with opset 13 or later.",
    )


def _runs(opset: int, ir_version: int) -> bool:
    import onnx
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "probe", tensors[:1], tensors[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (faults.Fail, faults.InvalidGraph, faults.InvalidArgument, faults.NotImplemented):
        return False
    return True
