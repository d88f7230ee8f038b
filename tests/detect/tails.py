"""A YOLOv5 with random weights and the whole decode tail: grids, strides and anchor shapes."""

import numpy as np
import onnx

from tests.graph.networks import STRIDES, Network, pyramid

# Width and height in pixels of the anchor shapes of each level.
ANCHORS = (((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)), ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)))


def yolov5_detector(*, classes: int = 3, size: int = 64) -> onnx.ModelProto:
    """[1, 3, size, size] to [1, anchors, 5 + classes]: centre, size in pixels, objectness, classes."""
    net = Network()
    width = 5 + classes
    outputs = []
    for feature, stride, shapes in zip(pyramid(net), STRIDES, ANCHORS, strict=True):
        cells = size // stride
        x = net.conv(feature, 32, 3 * width)
        x = net.add("Reshape", x, net.const([1, 3, width, cells, cells], np.int64))
        x = net.add("Sigmoid", net.add("Transpose", x, perm=[0, 1, 3, 4, 2]))
        centre, extent, rest = net.split(x, (2, 2, 1 + classes), axis=4)
        rows, columns = np.mgrid[0:cells, 0:cells]
        grid = net.const(np.stack([columns, rows], axis=2)[None, None] - 0.5)
        centre = net.add("Add", net.add("Mul", centre, net.const(2.0)), grid)
        centre = net.add("Mul", centre, net.const(float(stride)))
        extent = net.add("Pow", net.add("Mul", extent, net.const(2.0)), net.const(2.0))
        extent = net.add("Mul", extent, net.const(np.array(shapes).reshape(1, 3, 1, 1, 2)))
        x = net.add("Concat", centre, extent, rest, axis=4)
        outputs.append(net.add("Reshape", x, net.const([1, -1, width], np.int64)))
    anchors = sum(3 * (size // stride) ** 2 for stride in STRIDES)
    metadata = {"names": str([f"kind{number}" for number in range(classes)])}
    return net.model({net.add("Concat", *outputs, axis=1): (1, anchors, width)}, size=(size, size), metadata=metadata)
