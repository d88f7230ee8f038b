"""A static build as a whole: what can be switched, what it says of itself, what it spares the second time."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest

from mecha.errors import ConfigError
from mecha.graph.cpu import cpu_features, features_from
from mecha.quantize.built import Built
from mecha.quantize.calibrate import CalibrationCache
from mecha.quantize.fusion import float_convs
from mecha.quantize.options import StaticOptions
from mecha.quantize.qdq import Storage
from mecha.quantize.range_choice import WHOLE_METHODS
from mecha.quantize.ranges import RANGE_METHODS
from mecha.quantize.static import build_static
from mecha.quantize.static_build import storage_for
from mecha.words import alternatives
from tests.graph.networks import Activation, image, run, yolov8_network
from tests.quantize.frames_of_noise import PatchFrames, spec_of
from tests.quantize.probing import with_a_hot_channel

SWITCHES = {
    "equalization": "equalization",
    "rounding": "weight rounding",
    "bias_correction": "bias correction",
}
# With this aim every technique is tried.
STRICT = 1e-6


def build(
    model: onnx.ModelProto,
    folder: Path,
    *,
    frames: int = 5,
    cache: CalibrationCache | None = None,
    told: list[tuple[str, int, int | None]] | None = None,
    **options: Any,
) -> tuple[Built, bytes]:
    fp32, target = folder / "model.onnx", folder / "int8.onnx"
    fp32.write_bytes(model.SerializeToString())
    heard = [] if told is None else told
    built = build_static(
        fp32,
        target,
        PatchFrames(frames),
        spec_of(),
        options=StaticOptions(**options),
        progress=lambda *report: heard.append(report),
        threads=1,
        cache=cache,
    )
    return built, target.read_bytes()


def error_of(model: onnx.ModelProto, int8: bytes) -> float:
    wanted, got = run(model, image(seed=40))[0], run(int8, image(seed=40))[0]
    return float(np.square(wanted - got).sum() / np.square(wanted - wanted.mean()).sum())


def integers_of(int8: bytes, ending: str) -> dict[str, np.ndarray[Any, Any]]:
    """Constants by name; the ending says what they are."""
    graph = onnx.load_from_string(int8).graph
    return {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer if item.name.endswith(ending)}


def test_a_build_says_what_each_technique_gained(tmp_path: Path) -> None:
    model = yolov8_network(activation="relu")
    # Without mixed precision, whose choice depends on measured times.
    built, int8 = build(model, tmp_path, max_accuracy_drop=STRICT, mixed_precision=False)
    assert [gain.technique for gain in built.gains] == [
        "equalization",
        "weight rounding",
        *(f"range {method}" for method in WHOLE_METHODS),
        "range of single tensors",
        "bias correction",
    ]
    for gain in built.gains:
        assert gain.before > 0
        assert gain.after > 0
        assert gain.kept == (gain.after < gain.before) or gain.technique.startswith(("range", "weight"))
    assert (built.method, built.notes, built.curve) == ("static_int8", (), ())
    assert error_of(model, int8) < 0.02


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_technique_that_is_switched_off_is_not_tried(tmp_path: Path, switch: str, activation: Activation) -> None:
    model = yolov8_network(activation=activation)
    options: dict[str, Any] = {switch: False, "mixed_precision": False, "range": "mean_minmax"}
    built, int8 = build(model, tmp_path, max_accuracy_drop=STRICT, **options)
    wanted = [name for key, name in SWITCHES.items() if key != switch]
    if activation == "silu":  # which allows no equalization
        wanted = [name for name in wanted if name != "equalization"]
    assert [gain.technique for gain in built.gains] == wanted
    assert (built.curve, built.notes, float_convs(int8)) == ((), (), ())
    assert error_of(model, int8) < 0.02


def test_with_everything_off_nothing_is_searched(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    off: dict[str, Any] = dict.fromkeys([*SWITCHES, "mixed_precision"], False)
    model = yolov8_network()
    built, int8 = build(model, tmp_path, told=told, range="minmax", **off)
    assert (built.gains, built.curve, built.notes) == ((), (), ())
    assert "round" not in {stage for stage, _, _ in told}
    assert error_of(model, int8) < 0.03


@pytest.mark.parametrize("range_", ["mse", "minmax"])
def test_a_range_that_is_chosen_is_not_searched_for(tmp_path: Path, range_: str) -> None:
    built, _ = build(yolov8_network(), tmp_path, max_accuracy_drop=STRICT, mixed_precision=False, range=range_)
    assert not [gain for gain in built.gains if gain.technique.startswith("range")]


def test_what_is_near_enough_is_not_searched_further(tmp_path: Path) -> None:
    built, _ = build(yolov8_network(), tmp_path, max_accuracy_drop=1.0)
    assert [gain.technique for gain in built.gains] == ["weight rounding"]
    (point,) = built.curve
    assert (point.left_float, point.cost_ms) == ((), 0.0)


@pytest.mark.parametrize(
    ("target", "activations", "most"), [("arm64", "int8", 127), ("x86_64", "uint8", 64), ("x86_64-vnni", "uint8", 127)]
)
def test_integers_are_laid_out_for_the_target(
    tmp_path: Path, target: Literal["arm64", "x86_64", "x86_64-vnni"], activations: str, most: int
) -> None:
    model = yolov8_network()
    built, int8 = build(model, tmp_path, target=target, mixed_precision=False, range="mean_minmax")
    arm = cpu_features().arch == "arm64"
    elsewhere = (f"laid out for {target}; onnxruntime runs it in float on this CPU",)
    assert built.notes == (() if arm == (target == "arm64") else elsewhere)
    points = {
        tensor.name.split("_")[1]
        for tensor in onnx.load_from_string(int8).graph.initializer
        if tensor.name.startswith("zero_")
    }
    assert points == {activations, "int8", "int32"}
    weights = integers_of(int8, "_weight").values()
    assert {array.dtype for array in weights} == {np.dtype("int8")}
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) == most
    assert error_of(model, int8) < 0.02


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("auto", Storage("int8", 8)),
        ("arm64", Storage("int8", 8)),
        ("x86_64", Storage("uint8", 7)),
        ("x86_64-vnni", Storage("uint8", 8)),
    ],
)
def test_another_cpu_can_be_the_target(
    target: Literal["auto", "x86_64", "x86_64-vnni", "arm64"], expected: Storage
) -> None:
    assert storage_for(features_from("aarch64", ["asimddp"]), "uniform", target) == expected


def test_what_lies_far_from_the_mean_is_left_out_of_the_ranges(tmp_path: Path) -> None:
    scales = {}
    for z_threshold in (None, 1.0):
        _, int8 = build(
            yolov8_network(), tmp_path, z_threshold=z_threshold, range="mse", mixed_precision=False, rounding=False
        )
        graph = onnx.load_from_string(int8).graph
        scales[z_threshold] = {
            item.name: float(onnx.numpy_helper.to_array(item))
            for item in graph.initializer
            if item.name.startswith("scale_")
        }
    assert scales[None].keys() == scales[1.0].keys()
    narrower = [scales[1.0][name] < scales[None][name] for name in scales[None]]
    assert sum(narrower) > len(narrower) / 2


@pytest.mark.parametrize("z_threshold", [0.0, -1.0])
def test_a_threshold_that_leaves_out_everything_is_refused(tmp_path: Path, z_threshold: float) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(yolov8_network(), tmp_path, z_threshold=z_threshold)
    assert str(refusal.value) == f"z_threshold: got {z_threshold:g}; expected a number above 0"
    assert not (tmp_path / "int8.onnx").exists()


def test_a_range_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(yolov8_network(), tmp_path, range="guess")
    assert str(refusal.value) == f'range: got "guess"; expected {alternatives(RANGE_METHODS)}'


def test_equalization_mends_a_hot_channel_without_a_float_conv(tmp_path: Path) -> None:
    model, _ = with_a_hot_channel(7, 100.0)
    for node in model.graph.node:
        if node.op_type == "Mul":  # SiLU allows no equalization, its gate taken away does
            node.op_type = "LeakyRelu"
            del node.input[1:]
    kept = []
    for equalization in (True, False):
        built, int8 = build(model, tmp_path, equalization=equalization, mixed_precision=False, range="mean_minmax")
        kept.append(error_of(model, int8))
        assert [gain.kept for gain in built.gains if gain.technique == "equalization"] == [True] * equalization
    assert kept[0] < kept[1]


def test_progress_goes_through_the_stages_in_order(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    build(yolov8_network(), tmp_path, told=told, max_accuracy_drop=STRICT, mixed_precision=False)
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["quantize", "round", "search"]
    rounds = [(done, total) for stage, done, total in told if stage == "round"]
    assert rounds == [(number, len(rounds)) for number in range(1, len(rounds) + 1)]


@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_frames_are_looked_at_once_for_builds_that_differ_in_their_options(
    tmp_path: Path, activation: Activation
) -> None:
    model, cache = yolov8_network(activation=activation), CalibrationCache(tmp_path / "cache")
    frames = []
    for range_ in ("auto", "auto", "mse"):
        told: list[tuple[str, int, int | None]] = []
        build(model, tmp_path, cache=cache, told=told, range=range_, mixed_precision=False)
        frames.append(sum(stage == "quantize" for stage, _, _ in told))
    assert frames[0] >= 10
    assert frames[1:] == [0, 0]


def test_the_same_frames_and_options_give_the_same_file(tmp_path: Path) -> None:
    # Without mixed precision, whose choice depends on measured times.
    first, second = (build(yolov8_network(), tmp_path, mixed_precision=False)[1] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("frames", [1, 2])
def test_a_single_frame_is_enough(tmp_path: Path, frames: int) -> None:
    model = yolov8_network()
    built, int8 = build(model, tmp_path, frames=frames)
    assert built.notes == ()
    assert error_of(model, int8) < 0.05
