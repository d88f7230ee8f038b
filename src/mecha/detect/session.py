"""An onnxruntime session that uses the threads it was given, waits without burning CPU, and fails in sentences."""

import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mecha.detect.openvino import OPENVINO, OpenVinoSession, is_installed
from mecha.errors import IntegrityError, MechaError, NotFoundError, UnsupportedModelError
from mecha.graph.cpu import cpu_features
from mecha.graph.inspect import TensorInfo

if TYPE_CHECKING:
    import onnxruntime

    from mecha.detect.openvino import Value

MAX_DEFAULT_THREADS = 4

CPU_PROVIDER = "CPUExecutionProvider"
# Those that a model may run on besides the CPU. Others that onnxruntime lists send frames elsewhere.
OTHER_PROVIDERS = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CoreMLExecutionProvider",
    "OpenVINOExecutionProvider",
    "XnnpackExecutionProvider",
)

# onnxruntime's log levels run from 0 (verbose) to 4 (fatal). Its warnings are about graphs that their owner cannot
# change, and its errors are raised besides being logged.
_LOG_FATAL = 4

# `/onnxruntime_src/core/graph/load.h:46 void onnxruntime::Load(int, const T&) What happened`
_CPP_PLACE = re.compile(r"^\S+:\d+ .*?\(.*?\) (?=[A-Z])")

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def default_threads() -> int:
    """Return how many threads a session uses where nobody says: physical cores less one, at least 1, at most 4.

    One core is left to the camera and to everything else the device does. Beyond four threads small detectors gain
    little and the rest of the device loses. A process that is confined to fewer CPUs counts those instead.
    """
    return threads_for(usable_cores())


def build_threads() -> int:
    """Return how many threads a process of low priority uses that makes INT8: it takes what nobody else wants."""
    return min(usable_cores(), MAX_DEFAULT_THREADS)


def usable_cores() -> int:
    """Return the physical cores that this process may use, at least 1."""
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return cores


def tuned_device() -> tuple[str, str]:
    """Return what a tune holds for: this device in words, and the version of onnxruntime."""
    cores = usable_cores()
    return f"{cpu_features().key()}, {cores} core{'s' if cores > 1 else ''}", version("onnxruntime")


def threads_for(cores: int) -> int:
    """Return the default number of threads on so many physical cores."""
    return min(max(cores - 1, 1), MAX_DEFAULT_THREADS)


class Session:
    """A model loaded for one device.

    Attributes:
        provider: what runs the model: one of onnxruntime's, or "OpenVINO".
        notice: one line where that is not the provider that was asked for, empty otherwise.
        inputs: what it takes; outputs: what it gives. A dimension that is not fixed has a name or "?".
        threads: threads that one run uses.
    """

    def __init__(self, model: bytes | Path, *, threads: int, provider: str = CPU_PROVIDER, where: str = "") -> None:
        """Load a model.

        Args:
            model: an ONNX file, or its bytes.
            threads: at least 1.
            provider: of onnxruntime, or "OpenVINO"; the CPU provider takes what it does not run, or everything where
                it is not there.
            where: what messages call the model; its path by default.

        Raises:
            NotFoundError: there is no such file.
            IntegrityError: the bytes are no ONNX model.
            UnsupportedModelError: the model is whole, but onnxruntime has no kernel for it on this CPU.
        """
        import onnxruntime

        self._where = where or (str(model) if isinstance(model, Path) else "model")
        self.threads = threads
        if isinstance(model, Path) and not model.is_file():
            raise NotFoundError(f"{model}: no such file; expected an ONNX model")
        source = str(model) if isinstance(model, Path) else model
        session = self._on(source, provider) if provider in other_providers() else None
        if session is None:
            try:
                session = onnxruntime.InferenceSession(source, session_options(threads), providers=[CPU_PROVIDER])
            except runtime_errors() as error:
                raise self._load_error(error) from error
        self._session = session
        self.provider: str = session.get_providers()[0]
        self.notice = ""
        if self.provider != provider:
            self.notice = f"{self._where} cannot run on {provider} here; running on the CPU."
        self.inputs = tuple(_tensor_info(value) for value in self._session.get_inputs())
        self.outputs = tuple(_tensor_info(value) for value in self._session.get_outputs())
        self._input_name = self.inputs[0].name if self.inputs else ""

    def run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return all outputs for one input tensor, in the order of `outputs`.

        Raises:
            UnsupportedModelError: the tensor does not fit the model, or a kernel refused to run.
        """
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(None, {self._input_name: tensor})
        except runtime_errors() as error:
            raise UnsupportedModelError(
                f"{self._where}: onnxruntime cannot run it on an input of shape {list(tensor.shape)}: {_reason(error)}"
            ) from error
        return outputs

    def _on(self, source: str | bytes, provider: str) -> "onnxruntime.InferenceSession | OpenVinoSession | None":
        """Load on another provider than the CPU's; None where that does not load this model."""
        import onnxruntime

        try:
            if provider == OPENVINO:
                return OpenVinoSession(source, self.threads)
            return onnxruntime.InferenceSession(
                source, session_options(self.threads), providers=[provider, CPU_PROVIDER]
            )
        except runtime_errors():
            return None

    def _load_error(self, error: Exception) -> MechaError:
        reason = _reason(error)
        if "protobuf" in reason.lower():
            return IntegrityError(
                f"{self._where}: onnxruntime cannot parse it; expected an ONNX model; "
                "the file is cut short, damaged or no ONNX",
                hint="Fetch the file again.",
            )
        return UnsupportedModelError(
            f"{self._where}: onnxruntime cannot load it: {reason}",
            hint="The model needs an operator or opset that the installed onnxruntime does not have on this CPU.",
        )


def other_providers() -> tuple[str, ...]:
    """Return what may run a model besides onnxruntime's CPU provider: its other providers, and OpenVINO itself."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    found = tuple(name for name in OTHER_PROVIDERS if name in available)
    return (*found, OPENVINO) if is_installed() else found


def session_options(threads: int) -> "onnxruntime.SessionOptions":
    """Return the options that every session of mecha is made with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _LOG_FATAL
    # One block planned for all tensors of a run is no quicker and holds more: INT8 of yolov8n at 640 takes 34.5 ms with
    # it and 34.7 without, the process 108 MB and 88; FP32 85.5 and 86.1 ms, 130 and 114 MB.
    options.enable_mem_pattern = False
    # A thread that spins after its work is done takes the core from the camera and the next process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if cpu_features().saturates:
        # U8S8 products overflow on such a CPU; onnxruntime then computes them as U8U8, slower and right.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises: exceptions without a common class of their own, ValueError and RuntimeError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (getattr(state, name) for name in dir(state))
    own = [kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, ValueError, RuntimeError)


def _reason(error: Exception) -> str:
    """What onnxruntime says, on one line, without its codes and without the C++ function it happened in."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    return _CPP_PLACE.sub("", text)


def _tensor_info(value: "onnxruntime.NodeArg | Value") -> TensorInfo:
    shape = tuple(dim if isinstance(dim, int | str) else "?" for dim in value.shape)
    return TensorInfo(value.name, shape, _DTYPES.get(value.type, value.type))
