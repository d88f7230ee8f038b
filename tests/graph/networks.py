"""Small detectors with random weights and the structure of real ones: stem, split blocks, pyramid, heads, tails."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Activation = Literal["silu", "relu", "relu6", "hardswish", "none"]

STRIDES = (8, 16)


class Network:
    """A graph that grows node by node; the same seed gives the same weights."""

    def __init__(self, *, activation: Activation = "silu", seed: int = 0, named: bool = True) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.activation = activation
        self.rng = np.random.default_rng(seed)
        self.named = named

    def const(self, value: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        return self.add_many(op_type, *inputs, outputs=outputs, **attributes)[0]

    def add_many(self, op_type: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        number = len(self.nodes)
        names = [f"t{number}_{position}" for position in range(outputs)]
        name = f"{op_type}.{number}" if self.named else ""
        self.nodes.append(helper.make_node(op_type, inputs, names, name, **attributes))
        return names

    def conv(
        self, source: str, wide: int, out: int, *, kernel: int = 1, stride: int = 1, group: int = 1, bias: bool = True
    ) -> str:
        """A Conv without activation, (N, wide, H, W) to (N, out, H / stride, W / stride)."""
        shape = (out, wide // group, kernel, kernel)
        weights = self.rng.normal(0, (2.0 / (wide // group * kernel * kernel)) ** 0.5, shape)
        inputs = [source, self.const(weights)]
        if bias:
            inputs.append(self.const(self.rng.normal(0, 0.2, out)))
        pad = kernel // 2
        sizes: dict[str, Any] = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
            "group": group,
        }
        return self.add("Conv", *inputs, **sizes)

    def block(self, source: str, wide: int, out: int, **sizes: Any) -> str:
        return self.activated(self.conv(source, wide, out, **sizes))

    def activated(self, source: str) -> str:
        match self.activation:
            case "silu":
                return self.add("Mul", source, self.add("Sigmoid", source))
            case "relu":
                return self.add("Relu", source)
            case "relu6":
                return self.add("Clip", source, self.const(0.0), self.const(6.0))
            case "hardswish":
                return self.add("HardSwish", source)
            case _:
                return source

    def split(self, source: str, sizes: Sequence[int], axis: int) -> list[str]:
        return self.add_many("Split", source, self.const(sizes, np.int64), outputs=len(sizes), axis=axis)

    def model(
        self,
        outputs: dict[str, Sequence[int | str] | None],
        *,
        size: tuple[int, int] | None = (64, 64),
        opset: int = 14,
        metadata: dict[str, str] | None = None,
        dtype: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        """Close the graph; `outputs` are shapes by tensor, `size` (height, width) or None for any."""
        shape = ("batch", 3, "height", "width") if size is None else (1, 3, *size)
        graph = helper.make_graph(
            self.nodes,
            "small detector",
            [helper.make_tensor_value_info("images", dtype, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self.tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, metadata or {})
        onnx.checker.check_model(model)
        return model


def pyramid(net: Network) -> list[str]:
    """Feature maps of strides 8 and 16, 32 channels each, as C2f and SPPF blocks make them."""
    x = net.block("images", 3, 16, kernel=3, stride=2)
    x = net.block(x, 16, 32, kernel=3, stride=2)
    first, second = net.split(net.block(x, 32, 32), (16, 16), axis=1)
    inner = net.block(net.block(second, 16, 16, kernel=3), 16, 16, kernel=3)
    x = net.block(net.add("Concat", first, second, net.add("Add", second, inner), axis=1), 48, 32)
    fine = net.block(x, 32, 32, kernel=3, stride=2)
    x = net.block(net.block(fine, 32, 32, kernel=3, stride=2), 32, 16)
    pooled = net.add("MaxPool", x, kernel_shape=[5, 5], pads=[2, 2, 2, 2])
    coarse = net.block(net.add("Concat", x, pooled, axis=1), 32, 32)
    scales = net.const([1.0, 1.0, 2.0, 2.0])
    up = net.add("Resize", coarse, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric")
    return [net.block(net.add("Concat", up, fine, axis=1), 64, 32, kernel=3), coarse]


def yolov8_network(
    *,
    size: tuple[int, int] | None = (64, 64),
    classes: int = 3,
    reg_max: int = 8,
    joint: bool = False,
    activation: Activation = "silu",
    opset: int = 14,
    seed: int = 0,
    named: bool = True,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """A detector with the head of YOLOv8: [1, 4 + classes, anchors].

    Args:
        joint: boxes and scores of a level run through one Concat, as older exports have it.
    """
    net = Network(activation=activation, seed=seed, named=named)
    boxes, scores, grids, strides = [], [], [], []
    for feature, stride in zip(pyramid(net), STRIDES, strict=True):
        boxes.append(net.conv(net.block(feature, 32, 32, kernel=3), 32, 4 * reg_max))
        scores.append(net.conv(net.block(feature, 32, 32, kernel=3), 32, classes))
        grid, step = _grid(net, boxes[-1], stride) if size is None else _fixed_grid(net, size, stride)
        grids.append(grid)
        strides.append(step)
    flat = net.const([0, 4 * reg_max, -1], np.int64), net.const([0, classes, -1], np.int64)
    if joint:
        level = [net.add("Concat", *pair, axis=1) for pair in zip(boxes, scores, strict=True)]
        both = net.const([0, 4 * reg_max + classes, -1], np.int64)
        joined = net.add("Concat", *(net.add("Reshape", one, both) for one in level), axis=2)
        box, score = net.split(joined, (4 * reg_max, classes), axis=1)
    else:
        box = net.add("Concat", *(net.add("Reshape", one, flat[0]) for one in boxes), axis=2)
        score = net.add("Concat", *(net.add("Reshape", one, flat[1]) for one in scores), axis=2)
    sides = _expectation(net, box, reg_max)
    near, far = net.split(sides, (2, 2), axis=1)
    grid = net.add("Concat", *grids, axis=2)
    step = net.add("Concat", *strides, axis=2)
    low, high = net.add("Sub", grid, near), net.add("Add", grid, far)
    middle = net.add("Div", net.add("Add", low, high), net.const(2.0))
    cells = net.add("Concat", middle, net.add("Sub", high, low), axis=1)
    output = net.add("Concat", net.add("Mul", cells, step), net.add("Sigmoid", score), axis=1)
    anchors: int | str = "anchors" if size is None else sum(size[0] // s * (size[1] // s) for s in STRIDES)
    batch: int | str = "batch" if size is None else 1
    names = {number: f"kind{number}" for number in range(classes)}
    known = {"names": str(names), "stride": "16", "task": "detect", "imgsz": "[64, 64]"}
    shape = (batch, 4 + classes, anchors)
    return net.model({output: shape}, size=size, opset=opset, metadata=known if metadata is None else metadata)


def _expectation(net: Network, box: str, reg_max: int) -> str:
    """The distance to each side: Softmax over its bins, then the DFL Conv with weights 0 .. reg_max - 1."""
    x = net.add("Reshape", box, net.const([0, 4, reg_max, -1], np.int64))
    x = net.add("Softmax", net.add("Transpose", x, perm=[0, 3, 1, 2]), axis=3)
    weights = net.const(np.arange(reg_max).reshape(1, reg_max, 1, 1))
    x = net.add("Conv", net.add("Transpose", x, perm=[0, 3, 2, 1]), weights, kernel_shape=[1, 1])
    return net.add("Reshape", x, net.const([0, 4, -1], np.int64))


def _fixed_grid(net: Network, size: tuple[int, int], stride: int) -> tuple[str, str]:
    rows, columns = np.mgrid[0 : size[0] // stride, 0 : size[1] // stride]
    centres = np.stack([columns.ravel(), rows.ravel()])[None] + 0.5
    return net.const(centres), net.const(np.full((1, 1, centres.shape[2]), stride))


def _grid(net: Network, feature: str, stride: int) -> tuple[str, str]:
    """Cell centres (1, 2, cells) and strides (1, 1, cells) of a map whose size is known only when it runs."""
    shape = net.add("Shape", feature)
    zero, one = net.const(0, np.int64), net.const(1, np.int64)
    rows, columns = (net.add("Gather", shape, net.const(axis, np.int64)) for axis in (2, 3))
    size = net.add("Concat", *(net.add("Reshape", side, net.const([1], np.int64)) for side in (rows, columns)), axis=0)
    centres = []
    for side, form in ((columns, [1, -1]), (rows, [-1, 1])):
        line = net.add("Add", net.add("Cast", net.add("Range", zero, side, one), to=TensorProto.FLOAT), net.const(0.5))
        plane = net.add("Expand", net.add("Reshape", line, net.const(form, np.int64)), size)
        centres.append(net.add("Reshape", plane, net.const([1, 1, -1], np.int64)))
    step = net.add("Add", net.add("Mul", centres[0], net.const(0.0)), net.const(float(stride)))
    return net.add("Concat", *centres, axis=1), step


def yolov5_network(*, classes: int = 3, dynamic_names: bool = True) -> onnx.ModelProto:
    """A detector with decoded boxes and objectness: [1, anchors, 5 + classes], three anchors a cell."""
    net = Network()
    width = 5 + classes
    outputs = []
    for feature, stride in zip(pyramid(net), STRIDES, strict=True):
        cells = 64 // stride
        x = net.conv(feature, 32, 3 * width)
        x = net.add("Reshape", x, net.const([1, 3, width, cells, cells], np.int64))
        x = net.add("Sigmoid", net.add("Transpose", x, perm=[0, 1, 3, 4, 2]))
        centre, extent, rest = net.split(x, (2, 2, 1 + classes), axis=4)
        centre = net.add("Mul", centre, net.const(float(stride)))
        extent = net.add("Pow", extent, net.const(2.0))
        x = net.add("Concat", centre, extent, rest, axis=4)
        outputs.append(net.add("Reshape", x, net.const([1, -1, width], np.int64)))
    output = net.add("Concat", *outputs, axis=1)
    metadata = {"names": str([f"kind{number}" for number in range(classes)])} if dynamic_names else {}
    return net.model({output: (1, 3 * (64 + 16), width)}, metadata=metadata)


def yolox_network(*, classes: int = 3, activation: Activation = "silu", decoded: bool = False) -> onnx.ModelProto:
    """A raw head with boxes, objectness and classes side by side: [1, anchors, 5 + classes]. The stem is a Focus.

    Args:
        decoded: boxes leave in pixels, as some exports have it.
    """
    net = Network(activation=activation)
    corners = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x = "images"
        for start, axis in ((row, 2), (column, 3)):
            slices = ([start], [2**31], [axis], [2])
            x = net.add("Slice", x, *(net.const(value, np.int64) for value in slices))
        corners.append(x)
    x = net.block(net.add("Concat", *corners, axis=1), 12, 16, kernel=3)
    x = net.block(net.block(x, 16, 16, kernel=3, stride=2, group=16), 16, 32)
    fine = net.block(x, 32, 32, kernel=3, stride=2)
    levels = []
    for feature in (fine, net.block(fine, 32, 32, kernel=3, stride=2)):
        near, far = net.block(feature, 32, 32, kernel=3), net.block(feature, 32, 32, kernel=3)
        parts = (
            net.conv(near, 32, 4),
            net.add("Sigmoid", net.conv(near, 32, 1)),
            net.add("Sigmoid", net.conv(far, 32, classes)),
        )
        x = net.add("Concat", *parts, axis=1)
        levels.append(net.add("Reshape", x, net.const([0, 5 + classes, -1], np.int64)))
    output = net.add("Transpose", net.add("Concat", *levels, axis=2), perm=[0, 2, 1])
    if decoded:
        centre, extent, rest = net.split(output, (2, 2, 1 + classes), axis=2)
        output = net.add("Concat", net.add("Mul", centre, net.const(8.0)), net.add("Exp", extent), rest, axis=2)
    return net.model({output: (1, 64 + 16, 5 + classes)})


def nanodet_network(*, classes: int = 3, bins: int = 8, by_level: bool = False) -> onnx.ModelProto:
    """One Conv a level for class scores and box distributions: [1, anchors, classes + 4 * bins].

    Args:
        by_level: an output for the scores of each level, then one for the distributions of each, as older exports have.
    """
    net = Network()
    if by_level:
        maps = list(zip(pyramid(net), STRIDES, strict=True))
        shapes: dict[str, Sequence[int | str] | None] = {}
        for width in (classes, 4 * bins):
            for feature, stride in maps:
                x = net.conv(feature, 32, width)
                x = net.add("Sigmoid", x) if width == classes else x
                flat = net.add("Reshape", x, net.const([1, width, -1], np.int64))
                shapes[net.add("Transpose", flat, perm=[0, 2, 1])] = (1, (64 // stride) ** 2, width)
        return net.model(shapes)
    levels = []
    for feature in pyramid(net):
        x = net.conv(feature, 32, classes + 4 * bins)
        score, box = net.split(x, (classes, 4 * bins), axis=1)
        x = net.add("Concat", net.add("Sigmoid", score), box, axis=1)
        levels.append(net.add("Reshape", x, net.const([0, classes + 4 * bins, -1], np.int64)))
    output = net.add("Transpose", net.add("Concat", *levels, axis=2), perm=[0, 2, 1])
    return net.model({output: (1, 64 + 16, classes + 4 * bins)})


def end_to_end_network(*, classes: int = 3) -> onnx.ModelProto:
    """A head that picks its boxes itself: [1, 10, 6]."""
    net = Network()
    feature = pyramid(net)[0]
    shares = net.add("Sigmoid", net.add("Reshape", net.conv(feature, 32, 4), net.const([1, 4, -1], np.int64)))
    corner, extent = net.split(net.add("Mul", shares, net.const(32.0)), (2, 2), axis=1)
    box = net.add("Concat", corner, net.add("Add", corner, extent), axis=1)
    score = net.add(
        "Reshape", net.add("Sigmoid", net.conv(feature, 32, classes)), net.const([1, classes, -1], np.int64)
    )
    best = net.add("ReduceMax", score, axes=[1], keepdims=0)
    value, place = net.add_many("TopK", best, net.const([10], np.int64), outputs=2, axis=1)
    places = net.add("Expand", net.add("Unsqueeze", place, net.const([1], np.int64)), net.const([1, 4, 10], np.int64))
    kept = net.add("Transpose", net.add("GatherElements", box, places, axis=2), perm=[0, 2, 1])
    value = net.add("Unsqueeze", value, net.const([2], np.int64))
    output = net.add("Concat", kept, value, net.add("Mul", value, net.const(0.0)), axis=2)
    return net.model({output: (1, 10, 6)})


def two_output_network(classes: int = 3) -> onnx.ModelProto:
    """Queries with class logits and boxes, as transformers give them: [1, 64, classes] and [1, 64, 4]."""
    net = Network()
    feature = pyramid(net)[0]
    flat = net.add("Transpose", net.add("Reshape", feature, net.const([1, 32, -1], np.int64)), perm=[0, 2, 1])
    logits = net.add("MatMul", flat, net.const(net.rng.normal(size=(32, classes))))
    boxes = net.add("Sigmoid", net.add("MatMul", flat, net.const(net.rng.normal(size=(32, 4)))))
    return net.model({logits: (1, 64, classes), boxes: (1, 64, 4)})


def as_dynamic(model: onnx.ModelProto, *outputs: Sequence[int | str]) -> onnx.ModelProto:
    """Return the model with free batch, height and width and these output shapes, named as in dynamic exports."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    for value, shape in zip(
        (*free.graph.input, *free.graph.output), (("batch", 3, "height", "width"), *outputs), strict=True
    ):
        for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            if isinstance(size, str):
                dim.dim_param = size
            else:
                dim.dim_value = size
    return free


def classifier_network() -> onnx.ModelProto:
    net = Network()
    feature = pyramid(net)[1]
    output = net.add("Flatten", net.add("GlobalAveragePool", net.conv(feature, 32, 10)))
    return net.model({output: (1, 10)})


def run(model: onnx.ModelProto | bytes, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return all outputs, from a plain onnxruntime session with default options."""
    import onnxruntime

    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: image})
    return outputs


def image(height: int = 64, width: int = 64, *, seed: int = 0) -> NDArray[np.float32]:
    """An input tensor (1, 3, height, width), values 0 to 1: patches with texture, so that not all is noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((1, 3, height // 16, width // 16), dtype=np.float32).repeat(16, axis=2).repeat(16, axis=3)
    return np.clip(coarse + rng.normal(0, 0.1, coarse.shape).astype(np.float32), 0, 1)
