"""Models that are whole ONNX and cannot be used, each made from a detector that can."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph.networks import yolov8_network


def of_opset(version: int) -> onnx.ModelProto:
    """The stamp only: nodes stay as opset 14 has them."""
    model = yolov8_network()
    model.opset_import[0].version = version
    return model


def of_ir_version(version: int) -> onnx.ModelProto:
    model = yolov8_network()
    model.ir_version = version
    return model


def with_channels(count: int) -> onnx.ModelProto:
    """An input of so many channels."""
    model = yolov8_network()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = count
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[0].input[1])
    values = numpy_helper.to_array(weights)[:, :1].repeat(count, axis=1)
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    return model


def with_batch(count: int) -> onnx.ModelProto:
    model = yolov8_network()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = count
    return model


def with_second_input() -> onnx.ModelProto:
    model = yolov8_network()
    model.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, (1, 2)))
    return model


def with_weight(value: float) -> onnx.ModelProto:
    """One weight of the first Conv has this value."""
    model = yolov8_network()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[0].input[1])
    values = numpy_helper.to_array(weights).copy()
    values.flat[5] = value
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    return model


def overflowing() -> onnx.ModelProto:
    """Weights are numbers, what comes out of the second Conv is none: 1e30 times 1e30."""
    model = yolov8_network()
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in nodes[1:3]:
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1e30), weights.name))
    return model


def with_other_file(name: str = "weights.data") -> onnx.ModelProto:
    """The weights of the first Conv lie in a file of their own."""
    model = yolov8_network()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[0].input[1])
    onnx.external_data_helper.set_external_data(tensor, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return model
