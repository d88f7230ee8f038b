"""Ranges of single tensors that are found otherwise than those of all others."""

from pathlib import Path
from typing import Any

import onnx

from mecha.graph.reading import load_model
from mecha.quantize.options import RangeChoice, StaticOptions
from mecha.quantize.static import build_static
from tests.graph import networks
from tests.quantize.frames_of_noise import PatchFrames, spec_of


def scales(folder: Path, **options: Any) -> dict[str, float]:
    """The scale of each stored tensor of a build that does nothing but round."""
    fp32, target = folder / "model.onnx", folder / "int8.onnx"
    fp32.write_bytes(networks.yolov8_network().SerializeToString())
    plain: dict[str, Any] = {
        "mixed_precision": False,
        "rounding": False,
        "bias_correction": False,
        "equalization": False,
    }
    build_static(fp32, target, PatchFrames(), spec_of(), options=StaticOptions(**plain, **options))
    int8 = load_model(target)
    stored = {value.name: value for value in int8.graph.initializer}
    pairs = [node for node in int8.graph.node if node.op_type == "QuantizeLinear"]
    return {pair.input[0]: float(onnx.numpy_helper.to_array(stored[pair.input[1]])) for pair in pairs}


def a_tensor() -> str:
    """What the first Concat makes: no activation follows it."""
    return str(next(node.output[0] for node in networks.yolov8_network().graph.node if node.op_type == "Concat"))


def test_one_tensor_has_the_method_that_is_chosen_for_it(tmp_path: Path) -> None:
    name = a_tensor()
    usual = scales(tmp_path, range="minmax")
    chosen = scales(tmp_path, range="minmax", tensor_ranges={name: RangeChoice("percentile", 99.0)})
    assert chosen[name] < 0.9 * usual[name]
    assert {other: scale for other, scale in chosen.items() if scale != usual[other]} == {name: chosen[name]}


def test_a_choice_without_a_method_is_that_of_all(tmp_path: Path) -> None:
    chosen = {a_tensor(): RangeChoice(None)}
    assert scales(tmp_path, range="mse", tensor_ranges=chosen) == scales(tmp_path, range="mse")


def test_the_percentile_is_the_one_that_is_named(tmp_path: Path) -> None:
    narrow, wide = (scales(tmp_path, range="percentile", percentile=share)[a_tensor()] for share in (99.0, 99.99))
    assert narrow < 0.9 * wide
