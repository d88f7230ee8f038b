"""A float graph whose 3x3 convolutions compute two rows at a time, with two thirds of the products.

onnxruntime's convolutions run near the most products a core can do, so what makes them faster is fewer products. Two
rows of a 3x3 Conv of stride 1 read four rows d of the input, and take 4 instead of 6 products for each weight column
(Winograd's F(2, 3), along the height; https://arxiv.org/abs/1509.09308, section 4.1), with weight rows g:

    m0 = (d0 - d2) g0                        even row = m0 + m1 + m2
    m1 = (d1 + d2) (g0 + g1 + g2) / 2        odd row  = m1 - m2 + m3
    m2 = (d2 - d1) (g0 - g1 + g2) / 2
    m3 = (d3 - d1) g2

Each m is a Conv 1x3 over half the rows, each bracket of d a depthwise Conv, and weights are summed beforehand. Even and
odd rows stay apart until a node needs them together. The values are the same up to rounding: 5e-7 of the largest.
"""

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from mecha.graph.index import QUANTIZING_OPS, attribute_of, ints_of
from mecha.graph.reading import name_nodes
from mecha.graph.rewrite import Rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto, NodeProto

# Below, adding rows takes as long as the products that it spares: with 16, detectors moved by 1 % either way.
_LEAST_CHANNELS = 32
_CHANNEL_BLOCK = 16

_ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Mul"})


def in_row_pairs(model: "ModelProto", *, stride: int = 1) -> "ModelProto":
    """Return the model with its larger 3x3 convolutions of stride 1 computed in pairs of rows.

    What is quantized comes back as it is; so do maps whose height may be odd. Outputs keep their names. The model given
    is not changed.

    Args:
        stride: where the height of the input is not fixed, it is a multiple of this.
    """
    import onnx

    if any(node.op_type in QUANTIZING_OPS for node in model.graph.node):
        return model
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    name_nodes(rewritten.graph)
    rewrite = Rewrite(rewritten)
    pairs = _Pairs(rewrite, stride)
    for node in list(rewritten.graph.node):
        pairs.add(node)
    rewrite.finish()
    return rewritten


class _Pairs:
    """Which maps are there as even and odd rows, while the nodes are gone through in order."""

    def __init__(self, rewrite: Rewrite, stride: int) -> None:
        self._rewrite = rewrite
        self._stride = stride
        self._apart: dict[str, tuple[str, str]] = {}
        self._brackets: dict[str, tuple[str, ...]] = {}
        self._whole: set[str] = set()
        self._nodes: list[NodeProto] = []

    def add(self, node: "NodeProto") -> None:
        """Decide how a node is computed."""
        self._nodes = []
        if _spares_products(self._rewrite, node) and self._is_even(node.input[0]):
            self._convolve(node)
        elif self._may_stay_apart(node):
            self._twice(node)
        else:
            for name in node.input:
                self._interleave(name)
            if self._nodes:
                self._rewrite.put(node, [*self._nodes, node])
            return
        for name in node.output:
            if name in self._rewrite.index.outputs:
                self._interleave(name)
        self._rewrite.put(node, self._nodes)

    def _is_even(self, name: str) -> bool:
        """Say whether a map has an even number of rows at every size that the model runs at."""
        _, height, _ = self._rewrite.map_of(name)
        if height:
            return height % 2 == 0
        factor = self._rewrite.index.downsampling(name)
        rows = Fraction(1) if factor is None else self._stride / factor
        return rows.denominator == 1 and rows.numerator % 2 == 0

    def _may_stay_apart(self, node: "NodeProto") -> bool:
        index = self._rewrite.index
        sources = [name for name in node.input if name and name not in index.constants]
        if not sources or any(name not in self._apart for name in sources):
            return False
        if node.op_type == "Conv":
            # Rows are put together either before or after it; after it where the graph ends.
            return node.output[0] in index.outputs and _is_pointwise(self._rewrite, node)
        constants = [index.array(name) for name in node.input if name in index.constants]
        return node.op_type in _ELEMENTWISE and all(value is not None and value.size == 1 for value in constants)

    def _twice(self, node: "NodeProto") -> None:
        halves = []
        for which, word in enumerate(("even", "odd")):
            inputs = [self._apart[name][which] if name in self._apart else name for name in node.input]
            halves.append(self._emit(self._rewrite.copy(node, inputs, f"{node.name}.{word}")))
        self._apart[node.output[0]] = (halves[0], halves[1])

    def _interleave(self, name: str) -> None:
        """Put the rows of a map together: an even one and an odd one side by side are two rows of the map."""
        import onnx

        if name not in self._apart or name in self._whole:
            return
        self._whole.add(name)
        rewrite = self._rewrite
        wide = rewrite.free_name(f"{name}.side_by_side")
        self._nodes.append(onnx.helper.make_node("Concat", self._apart[name], [wide], wide, axis=3))
        # onnxruntime computes it beforehand where the size is fixed.
        half = self._emit(rewrite.node("Shape", [self._apart[name][0]], f"{name}.half"))
        twice = rewrite.store_integers(f"{name}.twice", (1, 1, 2, 1))
        shape = self._emit(rewrite.node("Mul", [half, twice], f"{name}.shape"))
        self._nodes.append(onnx.helper.make_node("Reshape", [wide, shape], [name], rewrite.free_name(f"{name}.rows")))

    def _convolve(self, conv: "NodeProto") -> None:
        rewrite = self._rewrite
        weights, bias = rewrite.weights(conv), rewrite.bias(conv)
        if weights is None:
            return
        first, middle, last = (weights[:, :, row : row + 1] for row in range(3))
        brackets = self._brackets_of(conv.input[0], weights.shape[1])
        half = np.float32(0.5)
        columns = (first, (first + middle + last) * half, (first - middle + last) * half, last)
        made = []
        for number, (source, rows) in enumerate(zip(brackets, columns, strict=True)):
            node = rewrite.conv(conv, source, rows, bias if number == 1 else None, f"{conv.name}.m{number}")
            _set_ints(node, kernel_shape=(1, 3), pads=(0, 1, 0, 1))
            made.append(node)
        self._nodes += made[1:3]
        m0, m1, m2, m3 = (node.output[0] for node in made)
        minus = self._rows(m2, weights.shape[0], (-1,), f"{conv.name}.minus", stride=1)
        both = self._emit(rewrite.node("Add", [m1, m2], f"{conv.name}.both"))
        apart = self._emit(rewrite.node("Add", [m1, minus], f"{conv.name}.apart"))
        self._nodes += [made[0], made[3]]
        even = self._emit(rewrite.node("Add", [both, m0], f"{conv.name}.even"))
        odd = self._emit(rewrite.node("Add", [apart, m3], f"{conv.name}.odd"))
        self._apart[conv.output[0]] = (even, odd)

    def _brackets_of(self, name: str, channels: int) -> tuple[str, ...]:
        """Return the four tensors that stand in brackets above, made once for all that read a map."""
        if name not in self._brackets:
            if name in self._apart:
                even, odd = self._apart[name]
                minus = self._rows(even, channels, (-1,), f"{name}.minus", stride=1)
                self._brackets[name] = (
                    self._rows(odd, channels, (1, -1), f"{name}.d0", stride=1, above=1),
                    self._emit(self._rewrite.node("Add", [even, odd], f"{name}.d1")),
                    self._emit(self._rewrite.node("Add", [odd, minus], f"{name}.d2")),
                    self._rows(even, channels, (-1, 1), f"{name}.d3", stride=1, below=1),
                )
            else:
                self._brackets[name] = (
                    self._rows(name, channels, (1, 0, -1), f"{name}.d0", above=1),
                    self._rows(name, channels, (1, 1), f"{name}.d1"),
                    self._rows(name, channels, (-1, 1), f"{name}.d2"),
                    self._rows(name, channels, (-1, 0, 1), f"{name}.d3", below=1),
                )
        return self._brackets[name]

    def _rows(
        self,
        source: str,
        channels: int,
        factors: "Sequence[float]",
        name: str,
        *,
        stride: int = 2,
        above: int = 0,
        below: int = 0,
    ) -> str:
        """Add up neighbouring rows of a map, each channel by itself."""
        import onnx

        column = np.asarray(factors, dtype=np.float32).reshape(1, 1, -1, 1)
        weights = self._rewrite.store(f"{name}.weight", np.tile(column, (channels, 1, 1, 1)))
        name = self._rewrite.free_name(name)
        node = onnx.helper.make_node("Conv", [source, weights], [name], name, group=channels)
        _set_ints(node, kernel_shape=(len(factors), 1), strides=(stride, 1), pads=(above, 0, below, 0))
        return self._emit(node)

    def _emit(self, node: "NodeProto") -> str:
        """Let a node stand here; return what its output is called."""
        self._nodes.append(node)
        return str(node.output[0])


def _spares_products(rewrite: Rewrite, node: "NodeProto") -> bool:
    """Say whether a node is a Conv 3x3 that two rows at a time make quicker."""
    if node.op_type != "Conv" or attribute_of(node, "auto_pad") not in {None, b"NOTSET"}:
        return False
    weights = rewrite.weights(node)
    if weights is None or weights.shape[2:] != (3, 3) or not rewrite.has_known_bias(node):
        return False
    wide, deep = weights.shape[:2]
    return (
        attribute_of(node, "group") in {None, 1}
        and ints_of(node, "pads") == (1, 1, 1, 1)
        and {*ints_of(node, "strides"), *ints_of(node, "dilations")} <= {1}
        and min(wide, deep) >= _LEAST_CHANNELS
        and wide % _CHANNEL_BLOCK == 0
        and deep % _CHANNEL_BLOCK == 0
    )


def _is_pointwise(rewrite: Rewrite, node: "NodeProto") -> bool:
    weights = rewrite.weights(node)
    return (
        weights is not None
        and weights.shape[2:] == (1, 1)
        and set(ints_of(node, "strides")) <= {1}
        and set(ints_of(node, "pads")) <= {0}
        and attribute_of(node, "auto_pad") in {None, b"NOTSET", b"VALID"}
    )


def _set_ints(node: "NodeProto", **lists: "Sequence[int]") -> None:
    """Set list attributes of a node, in place."""
    import onnx

    kept = [attribute for attribute in node.attribute if attribute.name not in lists]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(onnx.helper.make_attribute(name, list(values)) for name, values in lists.items())
