import re

import numpy as np
import onnx
import onnxruntime
import pytest

from mecha.errors import UnsupportedModelError
from mecha.graph.fitness import require_finite_weights, require_known_versions, too_old
from mecha.graph.inspect import require_detector, signature_of
from tests.graph import networks, unfit
from tests.graph.networks import image, run


def newest_of(message: str) -> int:
    found = re.search(r"expected at most (\d+)", message)
    assert found is not None
    return int(found.group(1))


def test_an_opset_that_onnxruntime_does_not_know_is_refused_with_the_newest_that_it_runs() -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        require_known_versions(signature_of(unfit.of_opset(99)), where="m.onnx")
    newest = newest_of(str(refusal.value))
    assert str(refusal.value) == (
        f"m.onnx: got opset 99; expected at most {newest}, the newest that onnxruntime {onnxruntime.__version__} runs"
    )
    assert refusal.value.hint == (
        "Export the model again with opset 17, or install a newer onnxruntime: pip install --upgrade onnxruntime."
    )
    require_known_versions(signature_of(unfit.of_opset(newest)), where="m.onnx")
    with pytest.raises(UnsupportedModelError):
        require_known_versions(signature_of(unfit.of_opset(newest + 1)), where="m.onnx")


def test_a_file_format_that_onnxruntime_does_not_know_is_refused_with_the_newest_that_it_reads() -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        require_known_versions(signature_of(unfit.of_ir_version(99)), where="m.onnx")
    newest = newest_of(str(refusal.value))
    assert str(refusal.value) == (
        f"m.onnx: got IR version 99; expected at most {newest}, the newest that onnxruntime "
        f"{onnxruntime.__version__} reads"
    )
    assert refusal.value.hint == (
        "Export the model again with an older onnx package, or install a newer onnxruntime: "
        "pip install --upgrade onnxruntime."
    )
    run(unfit.of_ir_version(newest), image())


def test_an_opset_older_than_onnxruntime_promises_is_named() -> None:
    refusal = too_old(signature_of(unfit.of_opset(6)), where="m.onnx")
    assert str(refusal) == "m.onnx: got opset 6; expected 7 or later, the oldest that onnxruntime runs"
    assert refusal.hint == "Export the model again with opset 13 or later."


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, what: str) -> None:
    model = unfit.with_weight(value)
    with pytest.raises(UnsupportedModelError) as refusal:
        require_finite_weights(model, where="m.onnx")
    conv = model.graph.node[0]
    assert str(refusal.value) == f"m.onnx: weights {conv.input[1]} of {conv.name}: got {what}; expected numbers"
    assert refusal.value.hint == (
        "The training diverged, or an export to half precision overflowed; export the model again, in float32."
    )


def test_a_mask_may_be_infinite() -> None:
    net = networks.Network()
    masked = net.add("Add", net.conv("images", 3, 8), net.const(np.full((1, 8, 1, 1), -np.inf)))
    require_finite_weights(net.model({masked: (1, 8, 64, 64)}), where="m.onnx")


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (unfit.with_channels(1), "images [1, 1, 64, 64] float32"),
        (unfit.with_channels(4), "images [1, 4, 64, 64] float32"),
        (unfit.with_batch(8), "images [8, 3, 64, 64] float32"),
        (unfit.with_second_input(), "images [1, 3, 64, 64] float32, sizes [1, 2] int64"),
    ],
    ids=["grey", "four channels", "batch", "two inputs"],
)
def test_a_detector_that_takes_something_else_than_one_colour_image_is_refused(
    model: onnx.ModelProto, inputs: str
) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        require_detector(signature_of(model), where="m.onnx")
    assert str(refusal.value) == (f"m.onnx: got inputs {inputs}; expected one image [1, 3, height, width] float32")
    assert refusal.value.hint == "Export the model again, in FP32 and with channels before height and width."
