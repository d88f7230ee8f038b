"""The ways to make INT8 that are measured side by side: each takes a model and photos, and writes one file."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mecha.quantize.frames import FrameSet
    from mecha.store.spec import ModelSpec

# What quantize_static needs for a scale for each channel, and what mecha converts to.
OPSET = 13
SCENES = 32

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Work:
    """One build.

    Attributes:
        model: the FP32 file.
        folder: where the INT8 file goes.
        photos: a folder of calibration photos; samples: how many of them are taken, the same for all.
        seed: of the built-in scenes.
    """

    model: Path
    folder: Path
    photos: Path
    samples: int
    seed: int


def mecha_photos(work: Work) -> Path:
    """Mecha, static_int8 with its default settings, on the photos."""
    return _mecha(work, _photos(work))


def mecha_scenes(work: Work) -> Path:
    """Mecha, static_int8 with its default settings, on 32 scenes that it renders: no photo."""
    from mecha.quantize.frames import built_in_scenes

    spec = described(work.model)
    return _mecha(work, built_in_scenes(SCENES, seed=work.seed, size=(spec.input.height, spec.input.width)))


def _mecha(work: Work, frames: "FrameSet") -> Path:
    from mecha.detect.session import build_threads
    from mecha.quantize.static import build_static

    target = work.folder / "int8.onnx"
    build_static(work.model, target, frames, described(work.model), threads=build_threads())
    return target


def plain_dynamic(work: Work) -> Path:
    """Plain quantize_dynamic of onnxruntime; uint8 weights, because its ConvInteger takes no int8 ones."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = work.folder / "int8.onnx"
    quantize_dynamic(work.model, target, weight_type=QuantType.QUInt8)
    return target


def plain_static(work: Work) -> Path:
    """Plain quantize_static of onnxruntime with its defaults: the whole graph, MinMax, one scale a tensor.

    The model is converted to opset 13 first, where it is older.
    """
    import onnx
    from onnxruntime.quantization import quantize_static

    from mecha.graph.prepare import load_model, to_opset

    source, target = work.folder / "opset.onnx", work.folder / "int8.onnx"
    onnx.save(to_opset(load_model(work.model), OPSET), source)
    quantize_static(source, target, _Reader(described(work.model).input.name, _tensors(work)))
    source.unlink()
    return target


def nncf_openvino(work: Work) -> Path:
    """NNCF's quantize with its defaults, as an OpenVINO model."""
    import nncf
    import openvino

    target = work.folder / "int8.xml"
    dataset = nncf.Dataset(list(_tensors(work)))
    quantized = nncf.quantize(openvino.Core().read_model(work.model), dataset, subset_size=work.samples)
    openvino.save_model(quantized, target)
    return target


class _Reader:
    """Hands tensors to quantize_static, one at a time."""

    def __init__(self, name: str, tensors: Iterator[Tensor]) -> None:
        self._name, self._tensors = name, tensors

    def get_next(self) -> dict[str, Tensor] | None:
        """Return the next one, None at the end."""
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}


def _photos(work: Work) -> "FrameSet":
    from mecha.quantize.frames import photo_frames

    return photo_frames([work.photos], work.samples)


def _tensors(work: Work) -> Iterator[Tensor]:
    """Give the photos as the model takes them, the same that mecha sees."""
    from mecha.detect.preprocess import Preprocessor

    spec = described(work.model)
    preprocess = Preprocessor(spec.preprocessing, spec.input.height, spec.input.width)
    for photo in _photos(work):
        yield preprocess(photo)[0].copy()


def described(model: Path) -> "ModelSpec":
    """Return what the file says of itself."""
    from mecha.detect.locate import inspected_spec
    from mecha.graph.inspect import inspect_model

    return inspected_spec(model, inspect_model(model))


def build(method: str, work: Work) -> dict[str, Any]:
    """Make one build and say what it took; the process should do nothing else."""
    import resource
    import time

    begun = time.perf_counter()
    file = BUILDERS[method](work)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = [file, *file.parent.glob(f"{file.stem}.bin")]
    return {
        "file": str(file),
        "size_bytes": sum(part.stat().st_size for part in files),
        "seconds": seconds,
        "peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
    }


BUILDERS: dict[str, Callable[[Work], Path]] = {
    "mecha, photos": mecha_photos,
    "mecha, scenes": mecha_scenes,
    "quantize_dynamic": plain_dynamic,
    "quantize_static": plain_static,
    "NNCF, OpenVINO": nncf_openvino,
}
