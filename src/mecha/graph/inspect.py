"""What a model is: its inputs and outputs, its family, its classes; by structure and metadata, never by node name."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mecha.errors import UnsupportedModelError
from mecha.graph.family import FAMILIES, family_of
from mecha.graph.index import QUANTIZING_OPS
from mecha.graph.reading import load_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import ModelProto, ValueInfoProto

_IMAGE_RANK = 4
_CHANNELS = 3
_DEFAULT_STRIDE = 32
# A larger image would fill the memory of any device that this is for.
MOST_PIXELS = 8192


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output.

    Attributes:
        shape: a name stands for a dimension that is not fixed, "?" where it has no name.
        dtype: as numpy names it, "float32".
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str

    def __str__(self) -> str:
        """`output0 [1, 84, 8400] float32`."""
        return f"{self.name} [{', '.join(map(str, self.shape))}] {self.dtype}"


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What a model takes and gives.

    Attributes:
        opset: version of the default ONNX operator set.
        metadata: the model's own key-value pairs.
        family: how its outputs are decoded; None when mecha cannot decode them.
        names: class names by class id, from the metadata.
        class_count: None when the outputs do not tell.
        input_size: (height, width) in pixels, None when the model takes more than one size.
        metadata_size: (height, width) that the metadata names.
        stride: height and width must be multiples of it.
        quantized: the graph already holds integer arithmetic or Q/DQ pairs.
        ir_version: of the file's format; 0 where the file was not read.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opset: int
    metadata: Mapping[str, str]
    family: str | None
    names: tuple[str, ...] | None
    class_count: int | None
    input_size: tuple[int, int] | None
    metadata_size: tuple[int, int] | None
    stride: int
    quantized: bool
    ir_version: int = 0

    @property
    def dynamic(self) -> bool:
        """The model takes more than one image size."""
        return self.input_size is None


def inspect_model(path: Path) -> ModelSignature:
    """Read an ONNX file and say what it is.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: the bytes are no ONNX model, or not all of one.
        UnsupportedModelError: the model is larger than 2 GB or keeps its weights in other files.
    """
    return signature_of(load_model(path))


def signature_of(model: "ModelProto") -> ModelSignature:
    """Say what a parsed model is."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor_info(value) for value in model.graph.input if value.name not in stored)
    outputs = tuple(_tensor_info(value) for value in model.graph.output)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    names = metadata_names(metadata.get("names"))
    found = family_of(model, [output.shape for output in outputs], names=names, task=metadata.get("task"))
    return ModelSignature(
        inputs=inputs,
        outputs=outputs,
        opset=next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0),
        metadata=MappingProxyType(metadata),
        family=found.name,
        names=names,
        class_count=found.class_count if found.class_count is not None or not names else len(names),
        input_size=_input_size(inputs),
        metadata_size=metadata_size(metadata.get("imgsz")),
        stride=metadata_stride(metadata.get("stride")),
        quantized=any(node.op_type in QUANTIZING_OPS for node in model.graph.node),
        ir_version=model.ir_version,
    )


def require_detector(signature: ModelSignature, *, where: str) -> str:
    """Return the family of a detector.

    Raises:
        UnsupportedModelError: the model is no detector that mecha can feed and decode.
    """
    if signature.family is None:
        raise UnsupportedModelError(
            f"{where}: got outputs {_listed(signature.outputs)}; expected a detector's: {', '.join(FAMILIES)}",
            hint="mecha decodes object detectors; export the model with its head, without masks or keypoints.",
        )
    require_image(signature, where=where)
    return signature.family


def require_image(signature: ModelSignature, *, where: str) -> None:
    """Refuse a model that takes something else than one colour image.

    Raises:
        UnsupportedModelError: it has several inputs, or one of another shape or type.
    """
    image = signature.inputs[0] if len(signature.inputs) == 1 else None
    if (
        image is None
        or len(image.shape) != _IMAGE_RANK
        or any(isinstance(got, int) and got != want for got, want in zip(image.shape, (1, _CHANNELS), strict=False))
        or image.dtype != "float32"
    ):
        raise UnsupportedModelError(
            f"{where}: got inputs {_listed(signature.inputs)}; expected one image [1, 3, height, width] float32",
            hint="Export the model again, in FP32 and with channels before height and width.",
        )
    require_sizes(signature, where=where)


def require_sizes(signature: ModelSignature, *, where: str) -> None:
    """Refuse a model that takes nothing, or an image of a size that no image has.

    Raises:
        UnsupportedModelError: it is one.
    """
    sizes = signature.input_size or (1, 1)
    if signature.inputs and all(0 < size <= MOST_PIXELS for size in sizes):
        return
    raise UnsupportedModelError(
        f"{where}: got inputs {_listed(signature.inputs)}; expected an image of 1 to {MOST_PIXELS} pixels a side",
        hint="Export the model again, for an image size that the device can run.",
    )


def _listed(tensors: "Iterable[TensorInfo]") -> str:
    return ", ".join(map(str, tensors)) or "none"


def _tensor_info(value: "ValueInfoProto") -> TensorInfo:
    import onnx

    tensor = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        dtype = "unknown"
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim)
    return TensorInfo(value.name, shape, dtype)


def _input_size(inputs: tuple[TensorInfo, ...]) -> tuple[int, int] | None:
    if not inputs or len(inputs[0].shape) != _IMAGE_RANK:
        return None
    height, width = inputs[0].shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _literal(text: str | None) -> object:
    """The value of a Python literal; None where there is none or the text is something else."""
    if text is None:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def metadata_names(text: str | None) -> tuple[str, ...] | None:
    """Return class names by class id from the metadata key `names`, a Python literal; None when it holds none."""
    value = _literal(text)
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value or not all(isinstance(key, int) and key >= 0 for key in value):
        return None
    count = max(value) + 1
    if count > 2 * len(value) + 100:  # ids so sparse are no class ids
        return None
    return tuple(str(value.get(class_id, f"class_{class_id}")) for class_id in range(count))


def metadata_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) in pixels from the metadata key `imgsz`; None when it holds none."""
    value = _literal(text)
    sizes = [value, value] if isinstance(value, int) else value
    if not isinstance(sizes, (list, tuple)) or not all(
        isinstance(size, int) and 0 < size <= MOST_PIXELS for size in sizes
    ):
        return None
    return (sizes[0], sizes[1]) if len(sizes) == len(("height", "width")) else None


def metadata_stride(text: str | None) -> int:
    """Return the stride in pixels from the metadata key `stride`, 32 when it holds none."""
    value = _literal(text)
    sizes = value if isinstance(value, (list, tuple)) else [value]
    strides = [int(size) for size in sizes if isinstance(size, (int, float)) and 1 <= size <= MOST_PIXELS]
    return max(strides, default=_DEFAULT_STRIDE)
