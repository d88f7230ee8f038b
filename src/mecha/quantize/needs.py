"""The libraries that quantization needs and inference does not."""

from importlib import import_module

from mecha.errors import QuantizationError

_INSTALL = "Install them with: pip install onnx onnxruntime. FP32 works without."


def require_onnx() -> None:
    """Refuse to go on where INT8 cannot be made.

    Raises:
        QuantizationError: onnx or onnxruntime cannot be imported.
    """
    _require("onnx", "onnxruntime")


def require_onnx_quantization() -> None:
    """Refuse to go on where dynamic INT8 cannot be made.

    Raises:
        QuantizationError: onnx or onnxruntime.quantization cannot be imported.
    """
    _require("onnx", "onnxruntime", "onnxruntime.quantization")


def _require(*modules: str) -> None:
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise QuantizationError(
                f"INT8 cannot be made: {module} cannot be imported ({error})", hint=_INSTALL
            ) from error
