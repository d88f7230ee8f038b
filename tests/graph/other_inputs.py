"""Networks that take something else than one colour image."""

import onnx
from onnx import TensorProto, helper

from tests.graph import networks


def _model(net: networks.Network, inputs: dict[str, tuple[int, ...]], output: str) -> onnx.ModelProto:
    def values(shapes: dict[str, tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    graph = helper.make_graph(net.nodes, "other inputs", values(inputs), values({output: (1, 8, 16, 16)}), net.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def two_inputs() -> onnx.ModelProto:
    net = networks.Network()
    x = net.block(net.block("images", 3, 16, kernel=3, stride=2), 16, 32, kernel=3, stride=2)
    output = net.add("Add", net.conv(x, 32, 8), "offset")
    return _model(net, {"images": (1, 3, 64, 64), "offset": (1, 8, 16, 16)}, output)


def narrow_network(channels: int, *, batch: int = 1) -> onnx.ModelProto:
    """Some channels in: (batch, channels, 64, 64)."""
    net = networks.Network()
    x = net.block(net.block("images", channels, 16, kernel=3, stride=2), 16, 32, kernel=3, stride=2)
    return _model(net, {"images": (batch, channels, 64, 64)}, net.conv(x, 32, 8))
