from pathlib import Path

import numpy as np
import onnx
import pytest

from mecha.quantize.blocks import worst_blocks
from mecha.quantize.static import StaticOptions, build_static
from tests.graph import networks
from tests.graph.networks import image, run
from tests.quantize.frames_of_noise import PatchFrames, spec_of


def with_a_hot_channel(conv: int) -> tuple[onnx.ModelProto, list[str]]:
    """A detector one of whose Convs makes values far beyond all others in a single channel, which nobody reads much."""
    model = networks.yolov8_network(seed=3)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for position, axis, factor in ((conv, 0, 400.0), (conv + 1, 1, 1 / 400.0)):
        tensor = tensors[convs[position].input[1]]
        weights = onnx.numpy_helper.to_array(tensor).copy()
        np.moveaxis(weights, axis, 0)[0] *= factor
        tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    return model, [node.name for node in convs]


def test_the_block_that_ruins_int8_is_found_and_leaving_it_float_mends_it(tmp_path: Path) -> None:
    model, convs = with_a_hot_channel(1)
    fp32, target = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    fp32.write_bytes(model.SerializeToString())
    told: list[tuple[str, int, int | None]] = []
    worst = worst_blocks(fp32, PatchFrames(), spec_of(), progress=lambda *report: told.append(report))
    assert convs[1] in worst
    assert len(worst) <= 8
    assert list(worst) == [name for name in convs if name in worst]
    assert told[-1][0] == "quantize"
    errors = []
    for leave_float in ((), worst):
        build_static(fp32, target, PatchFrames(), spec_of(), options=StaticOptions(leave_float=leave_float))
        difference = run(model, image())[0] - run(target.read_bytes(), image())[0]
        errors.append(float(np.square(difference).mean()))
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize("count", [0, 2])
def test_no_more_convs_are_named_than_were_asked_for(tmp_path: Path, count: int) -> None:
    model, _ = with_a_hot_channel(1)
    fp32 = tmp_path / "model.onnx"
    fp32.write_bytes(model.SerializeToString())
    assert len(worst_blocks(fp32, PatchFrames(), spec_of(), count=count)) <= count
