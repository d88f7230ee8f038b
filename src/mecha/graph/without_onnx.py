"""What a model is, as far as onnxruntime tells it: for devices where the `onnx` package is missing or broken."""

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mecha.errors import IntegrityError, UnsupportedModelError
from mecha.graph.fitness import require_finite_weights
from mecha.graph.inspect import (
    ModelSignature,
    TensorInfo,
    metadata_names,
    metadata_size,
    metadata_stride,
    signature_of,
)
from mecha.graph.reading import check_start, parse_model, read_bytes

if TYPE_CHECKING:
    from onnx import ModelProto

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16", "tensor(int64)": "int64"}
_BOX = 4
_SIZES = slice(2, 4)
# What reading a node raises that lacks an input or an attribute, or whose attribute is of another type.
_OF_A_MALFORMED_GRAPH = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)


def signature_at(path: Path, *, where: str) -> ModelSignature:
    """Say what a model is: by its graph, or where the package that reads graphs is missing, by what onnxruntime tells.

    FP32 needs no more than that, so a device without `onnx` still detects.

    Raises:
        IntegrityError: the bytes are no ONNX model.
        UnsupportedModelError: the model is larger than 2 GB, its weights are in other files or hold what is no number,
            or `signature_by_runtime` cannot tell the family.
    """
    try:
        import onnx  # noqa: F401 - asked for here, because reading needs it only when it is called
    except ImportError:
        return signature_by_runtime(path, where=where)
    model = parse_model(read_bytes(path, where=where), where=where)
    try:
        require_finite_weights(model, where=where)
        return signature_of(model)
    except _OF_A_MALFORMED_GRAPH as error:
        raise IntegrityError(
            f"{where}: got a graph that is not well formed: {_malformed(model, error)}; expected an ONNX model",
            hint="Export the model again.",
        ) from error


def _malformed(model: "ModelProto", error: Exception) -> str:
    """Say what is wrong with a graph, in the words of the package that checks graphs where it finds something."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as fault:
        return str(fault).strip().splitlines()[0]
    return f"{type(error).__name__}: {error}"


def signature_by_runtime(path: Path, *, where: str) -> ModelSignature:
    """Load a model in onnxruntime and say what it is, by its shapes and metadata alone.

    Raises:
        IntegrityError: onnxruntime cannot load it.
        UnsupportedModelError: shapes and metadata do not make it a detector of the yolov8 family; to tell others, the
            graph must be read.
    """
    import onnxruntime

    with path.open("rb") as file:
        check_start(file.read(512), where=where)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise IntegrityError(f"{where}: onnxruntime cannot load it: {error}; expected an ONNX model") from error
    metadata = session.get_modelmeta().custom_metadata_map
    names = metadata_names(metadata.get("names"))
    outputs = tuple(_tensor(value) for value in session.get_outputs())
    inputs = tuple(_tensor(value) for value in session.get_inputs())
    taken = len(inputs) == 1 and len(inputs[0].shape) == _SIZES.stop
    if names is None or not taken or len(outputs) != 1 or outputs[0].shape[1:2] != (_BOX + len(names),):
        raise UnsupportedModelError(
            f"{where}: got outputs {', '.join(map(str, outputs))}; without the onnx package only detectors of the "
            "yolov8 family that name their classes can be told",
            hint="pip install onnx",
        )
    height, width = inputs[0].shape[_SIZES]
    return ModelSignature(
        inputs=inputs,
        outputs=outputs,
        opset=0,
        metadata=MappingProxyType(metadata),
        family="yolov8",
        names=names,
        class_count=len(names),
        input_size=(height, width) if isinstance(height, int) and isinstance(width, int) else None,
        metadata_size=metadata_size(metadata.get("imgsz")),
        stride=metadata_stride(metadata.get("stride")),
        quantized=False,
    )


def _tensor(value: object) -> TensorInfo:
    shape = tuple(size if isinstance(size, (int, str)) else "?" for size in getattr(value, "shape"))  # noqa: B009 - untyped
    return TensorInfo(getattr(value, "name"), shape, _DTYPES.get(getattr(value, "type"), "unknown"))  # noqa: B009
