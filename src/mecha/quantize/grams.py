"""What goes into each Conv: the Gram matrix of its input patches, gathered at some places of each frame."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mecha.detect.session import Session
from mecha.graph.cut import cut_at
from mecha.graph.index import GraphIndex, attribute_of, ints_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from mecha.quantize.calibrate import Inputs

# Places taken of each frame. 200 on each of 16 frames leave a tenth of the error that rounding each weight makes.
PLACES = 200
# Sums in float32 are not known better than to this share of themselves: products of inputs that vary less, as those of
# a covered camera, would be nothing but rounding, and no squares. Other inputs do not feel it.
_SUM_PRECISION = 4 * float(np.finfo(np.float32).eps)
# What the matrices of one pass over the frames may take; more Convs take more passes.
_LARGEST_PASS_BYTES = 48 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Gram:
    """Of the input patches of one Conv.

    Attributes:
        products: (groups, inputs, inputs) float32, sums over the places, the means taken off.
        means: (groups, inputs) float32; inputs are in * rows * columns of the kernel.
    """

    products: NDArray[np.float32]
    means: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Kernel:
    """The shape of a Conv."""

    input: str
    groups: int
    channels: int
    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def inputs(self) -> int:
        return self.channels * self.size[0] * self.size[1]

    @property
    def gram_bytes(self) -> int:
        return 4 * self.groups * (self.inputs + 1) ** 2

    def patches(self, values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return (groups, places, inputs + 1) of an input (1, channels, rows, columns); the last column is one."""
        top, left, bottom, right = self.pads
        padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
        reach = tuple((size - 1) * dilation + 1 for size, dilation in zip(self.size, self.dilations, strict=True))
        windows = sliding_window_view(padded, reach, axis=(1, 2))[:, :: self.strides[0], :: self.strides[1]]
        windows = windows[..., :: self.dilations[0], :: self.dilations[1]]
        count = windows.shape[1] * windows.shape[2]
        chosen = np.sort(rng.choice(count, min(PLACES, count), replace=False))
        taken = windows[:, chosen // windows.shape[2], chosen % windows.shape[2]]
        grouped = taken.reshape(self.groups, self.channels, len(chosen), -1).transpose(0, 2, 1, 3)
        flat = grouped.reshape(self.groups, len(chosen), self.inputs)
        return np.concatenate([flat, np.ones((*flat.shape[:2], 1), dtype=np.float32)], axis=2)


def find_grams(
    model: "ModelProto",
    convs: Sequence[str],
    inputs: "Inputs",
    *,
    threads: int,
    on_frame: Callable[[], None],
) -> Iterator[tuple[str, Gram]]:
    """Yield the Gram matrix of each Conv, pass by pass over the frames; memory does not grow with their number.

    Args:
        model: FP32, of one input size.
        convs: names; those that are not plain convolutions of two dimensions are passed over.
        inputs: input tensors (1, 3, height, width), the same at each call.
        on_frame: called after each frame of each pass.
    """
    index = GraphIndex.of(model)
    nodes = {node.name: node for node in model.graph.node}
    shapes = {name: _kernel(index, nodes[name]) for name in convs}
    kernels = {name: kernel for name, kernel in shapes.items() if kernel is not None}
    for part in _passes(kernels):
        yield from _gathered(model, part, inputs, threads, on_frame)


def _passes(kernels: dict[str, _Kernel]) -> Iterator[dict[str, _Kernel]]:
    part: dict[str, _Kernel] = {}
    for name, kernel in kernels.items():
        if part and sum(other.gram_bytes for other in part.values()) + kernel.gram_bytes > _LARGEST_PASS_BYTES:
            yield part
            part = {}
        part[name] = kernel
    if part:
        yield part


def _gathered(
    model: "ModelProto", kernels: dict[str, _Kernel], inputs: "Inputs", threads: int, on_frame: Callable[[], None]
) -> Iterator[tuple[str, Gram]]:
    tensors = list(dict.fromkeys(kernel.input for kernel in kernels.values()))
    session = Session(cut_at(model, tensors).SerializeToString(), threads=threads, where="calibration")
    sums = {
        name: np.zeros((kernel.groups, kernel.inputs + 1, kernel.inputs + 1), dtype=np.float32)
        for name, kernel in kernels.items()
    }
    rng = np.random.default_rng(0)
    for tensor in inputs():
        seen = dict(zip(tensors, session.run(tensor), strict=True))
        for name, kernel in kernels.items():
            patches = kernel.patches(seen[kernel.input], rng)
            sums[name] += patches.transpose(0, 2, 1) @ patches
        on_frame()
    del session
    while sums:
        name, products = sums.popitem()
        yield name, _centred(products)


def _centred(products: NDArray[np.float32]) -> Gram:
    """Take the means off: the bias makes up for them."""
    means = products[:, :-1, -1] / products[:, -1:, -1]
    centred = products[:, :-1, :-1]
    unsure = _SUM_PRECISION * np.einsum("gkk->g", centred)
    centred -= products[:, :-1, -1:] * means[:, None, :]
    inputs = np.arange(centred.shape[1])
    centred[:, inputs, inputs] += unsure[:, None]
    return Gram(centred, means)


def _kernel(index: GraphIndex, conv: "NodeProto") -> _Kernel | None:
    """Return the shape of a Conv; None for those of another number of dimensions, and for those padded by a rule."""
    dims = index.weight_dims(conv)
    if dims is None or len(dims) != 4 or attribute_of(conv, "auto_pad") not in (None, b"NOTSET", b"VALID"):  # noqa: PLR2004
        return None
    strides, dilations = (ints_of(conv, name) or (1, 1) for name in ("strides", "dilations"))
    top, left, bottom, right = ints_of(conv, "pads") or (0, 0, 0, 0)
    return _Kernel(
        input=conv.input[0],
        groups=int(str(attribute_of(conv, "group") or 1)),
        channels=dims[1],
        size=(dims[2], dims[3]),
        strides=(strides[0], strides[1]),
        dilations=(dilations[0], dilations[1]),
        pads=(top, left, bottom, right),
    )
