"""OpenVINO as a second runtime: what a Session needs of onnxruntime's InferenceSession, done by OpenVINO.

It is an extra, `mecha[openvino]`; a tune chooses it where it measures faster. Results are kept in float32: without the
hint, OpenVINO computes in bfloat16 where the CPU can: 50 ms in place of 88 for yolov8n on a Zen 4 core, and not what
FP32 promises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPENVINO = "OpenVINO"
_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "u8": "tensor(uint8)", "i8": "tensor(int8)"}


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output, described as onnxruntime does."""

    name: str
    shape: Sequence[int | str]
    type: str


def is_installed() -> bool:
    """Tell whether the package is there, without loading it."""
    return find_spec("openvino") is not None


class OpenVinoSession:
    """A model compiled by OpenVINO for the CPU.

    Args:
        source: path or bytes of an ONNX model with fixed shapes.
        threads: at least 1.

    Raises:
        RuntimeError: OpenVINO cannot read or compile it.
    """

    def __init__(self, source: str | bytes, threads: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(BytesIO(source) if isinstance(source, bytes) else source)
        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(model, "CPU", hints)
        self._request = compiled.create_infer_request()
        self._inputs = [_value(port) for port in compiled.inputs]
        self._outputs = [_value(port) for port in compiled.outputs]

    def get_providers(self) -> list[str]:
        """Return what runs the model."""
        return [OPENVINO]

    def get_inputs(self) -> list[Value]:
        """Return what it takes."""
        return self._inputs

    def get_outputs(self) -> list[Value]:
        """Return what it gives, in the order of the model."""
        return self._outputs

    def run(self, _names: None, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return all outputs, as arrays of their own."""
        results = self._request.infer(list(feed.values()))
        return [results[index] for index in range(len(self._outputs))]


def _value(port: Any) -> Value:  # noqa: ANN401 - OpenVINO's ports have no public type
    kind = port.get_element_type().get_type_name()
    return Value(port.get_any_name(), list(port.get_shape()), _TYPES.get(kind, kind))
