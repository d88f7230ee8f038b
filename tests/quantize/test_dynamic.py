import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.errors import QuantizationError
from mecha.graph.cut import cut_at, find_tail, find_yolov8_head
from mecha.graph.reading import load_model
from mecha.quantize.dynamic import build_dynamic
from tests.graph import networks
from tests.graph.networks import image, run


@pytest.mark.parametrize("size", [(64, 64), None])
def test_dynamic_int8_is_right_and_made_of_integer_convs(
    tmp_path: Path, size: tuple[int, int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = networks.yolov8_network(size=size)
    fp32, target = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    fp32.write_bytes(model.SerializeToString())
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    built = build_dynamic(fp32, target)
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)
    assert not caplog.records
    int8 = load_model(target)
    *others, dfl = (node.name for node in model.graph.node if node.op_type == "Conv")
    assert (built.method, built.left_float, built.notes) == ("dynamic_int8", (dfl,), ())
    assert sum(node.op_type == "ConvInteger" for node in int8.graph.node) == len(others)
    weights = {tensor.data_type for tensor in int8.graph.initializer if tensor.name.endswith("_quantized")}
    assert weights == {onnx.TensorProto.UINT8}  # ConvInteger has no kernel for int8 weights
    boundary = find_tail(model).boundary
    for wanted, got in zip(run(cut_at(model, boundary), image()), run(cut_at(int8, boundary), image()), strict=True):
        assert np.square(wanted - got).sum() < 0.02 * np.square(wanted).sum()
    assert int8.graph.input == model.graph.input
    assert int8.graph.output == model.graph.output
    assert int8.metadata_props == model.metadata_props
    assert find_yolov8_head(int8) == find_yolov8_head(model)


def test_a_model_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    fp32, target = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    fp32.write_bytes(networks.yolov8_network().SerializeToString())
    build_dynamic(fp32, target)
    with pytest.raises(QuantizationError) as refusal:
        build_dynamic(target, tmp_path / "again.onnx")
    assert str(refusal.value) == (
        "int8.onnx: got a model with DynamicQuantizeLinear nodes; expected FP32, this one is quantized already"
    )
