from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mecha.errors import ConfigError, QuantizationError
from mecha.graph.cpu import features_from
from mecha.graph.cut import cut_at, find_tail, find_yolov8_head
from mecha.graph.reading import load_model
from mecha.quantize.calibrate import observe, range_of
from mecha.quantize.fusion import float_convs, optimized_kinds, requantized_convs
from mecha.quantize.options import StaticOptions
from mecha.quantize.plan import Planner
from mecha.quantize.qdq import Storage, stored_convs, write_pairs
from mecha.quantize.ranges import Range
from mecha.quantize.static import build_static
from mecha.quantize.static_build import storage_for
from tests.graph import networks
from tests.graph.networks import Activation, image, run
from tests.quantize.frames_of_noise import PatchFrames, spec_of

# Searches nothing; pulls of the same real models try everything.
PLAIN = StaticOptions(
    range="mean_minmax", equalization=False, rounding=False, bias_correction=False, mixed_precision=False
)


def build(model: onnx.ModelProto, folder: Path, **options: Any) -> tuple[onnx.ModelProto, bytes]:
    fp32, target = folder / "model.onnx", folder / "model-int8.onnx"
    fp32.write_bytes(model.SerializeToString())
    chosen = StaticOptions(**{"mixed_precision": False, **options})
    built = build_static(fp32, target, PatchFrames(), spec_of(), options=chosen)
    assert built.method == "static_int8"
    assert built.notes == ()
    return load_model(target), target.read_bytes()


def error_at_the_tail(model: onnx.ModelProto, int8: onnx.ModelProto) -> float:
    """Noise over signal where the tail begins."""
    boundary = find_tail(model).boundary
    noise = signal = 0.0
    for wanted, got in zip(run(cut_at(model, boundary), image()), run(cut_at(int8, boundary), image()), strict=True):
        noise += float(np.square(wanted - got).sum())
        signal += float(np.square(wanted).sum())
    return noise / signal


@pytest.mark.parametrize("activation", ["silu", "relu", "relu6", "hardswish", "none"])
@pytest.mark.parametrize("opset", [13, 17])
def test_every_conv_of_the_body_runs_in_integers(tmp_path: Path, activation: Activation, opset: int) -> None:
    if activation == "hardswish" and opset < 14:
        pytest.skip("HardSwish came with opset 14")
    model = networks.yolov8_network(activation=activation, opset=opset)
    int8, data = build(model, tmp_path)
    kinds = optimized_kinds(data)
    stored = stored_convs(int8.graph.node)
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert set(convs) - set(stored) == {convs[0], convs[-1], *find_tail(model).last_convs}
    assert {kinds[name] for name in stored} == {"QLinearConv"}
    assert error_at_the_tail(model, int8) < 0.02
    onnx.checker.check_model(int8, full_check=True)


def test_inputs_outputs_and_metadata_stay_as_they_are(tmp_path: Path) -> None:
    model = networks.yolov8_network(size=None)
    int8, _ = build(model, tmp_path)
    assert int8.graph.input == model.graph.input
    assert int8.graph.output == model.graph.output
    assert int8.metadata_props == model.metadata_props
    for size in ((64, 64), (32, 96)):
        np.testing.assert_allclose(run(int8, image(*size))[0].shape, run(model, image(*size))[0].shape)
    assert find_yolov8_head(int8) == find_yolov8_head(model)


def test_the_file_is_a_quarter_of_its_fp32(tmp_path: Path) -> None:
    net = networks.Network()
    x = net.block(net.block("images", 3, 16, kernel=3, stride=2), 16, 256, kernel=3, stride=2)
    y = net.conv(net.block(net.block(x, 256, 256, kernel=3), 256, 64), 64, 8)
    model = net.model({y: (1, 8, 16, 16)})
    _, data = build(model, tmp_path, rounding=False, range="mean_minmax")
    assert len(data) < 0.27 * len(model.SerializeToString())


@pytest.mark.parametrize("scheme", ["uniform", "symmetric", "power_of_two"])
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_every_scheme_gives_a_right_file(tmp_path: Path, scheme: str, activation: Activation) -> None:
    model = networks.yolov8_network(activation=activation)
    int8, data = build(model, tmp_path, scheme=scheme)
    assert float_convs(data) == ()
    assert error_at_the_tail(model, int8) < (0.1 if scheme == "power_of_two" else 0.02)
    scales = [
        float(onnx.numpy_helper.to_array(tensor))
        for tensor in int8.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.dims and tensor.name.startswith("scale_")
    ]
    assert scales
    if scheme == "power_of_two":
        assert all(np.log2(scale) == round(np.log2(scale)) for scale in scales)


@pytest.mark.parametrize(
    "range_", ["auto", "most_frames", "mean_minmax", "minmax", "percentile", "mse", "mae", "entropy"]
)
def test_every_way_to_find_ranges_gives_a_right_file(tmp_path: Path, range_: str) -> None:
    model = networks.yolov8_network()
    int8, _ = build(model, tmp_path, range=range_, rounding=False)
    assert error_at_the_tail(model, int8) < 0.02


@pytest.mark.parametrize("activation", ["silu", "relu", "relu6", "none"])
@pytest.mark.parametrize("first", [1, 4, 8])
def test_convs_left_float_stay_float_in_onnxruntime(tmp_path: Path, activation: Activation, first: int) -> None:
    model = networks.yolov8_network(activation=activation)
    convs = tuple(node.name for node in model.graph.node if node.op_type == "Conv")[first : first + 3]
    int8, data = build(model, tmp_path, leave_float=convs, rounding=False)
    assert not set(convs) & set(stored_convs(int8.graph.node))
    assert requantized_convs(data) == ()
    assert float_convs(data) == ()
    assert error_at_the_tail(model, int8) < 0.02


def test_without_float_edges_onnxruntime_would_quantize_what_was_left_float(tmp_path: Path) -> None:
    """The reason for the guard: should this fail, onnxruntime has stopped doing so and the guard can go."""
    model = networks.yolov8_network(activation="none")
    conv = [node.name for node in model.graph.node if node.op_type == "Conv"][4]
    int8, _ = build(model, tmp_path, leave_float=(conv,), rounding=False)
    guard = next(node for node in int8.graph.node if node.op_type == "Clip")
    for node in int8.graph.node:
        node.input[:] = [guard.input[0] if name == guard.output[0] else name for name in node.input]
    int8.graph.node.remove(guard)
    assert requantized_convs(int8.SerializeToString()) == (conv,)


def test_a_tensor_that_is_also_an_output_keeps_its_name(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    conv = [node for node in model.graph.node if node.op_type == "Conv"][4]
    model.graph.output.append(onnx.helper.make_tensor_value_info(conv.output[0], onnx.TensorProto.FLOAT, None))
    int8, _ = build(model, tmp_path)
    wanted, got = run(model, image())[1], run(int8, image())[1]
    assert np.square(wanted - got).sum() < 0.01 * np.square(wanted).sum()


def test_constant_operands_are_stored_as_integers(tmp_path: Path) -> None:
    net = networks.Network()
    x = net.block(net.block("images", 3, 16, kernel=3, stride=2), 16, 16, kernel=3)
    x = net.add("Add", net.add("Mul", x, net.const(0.25)), net.const(np.linspace(-1, 1, 16).reshape(1, 16, 1, 1)))
    y = net.conv(net.block(net.block(x, 16, 16), 16, 16), 16, 4)
    model = net.model({y: (1, 4, 32, 32)})
    int8, data = build(model, tmp_path)
    kinds = optimized_kinds(data)
    assert {"QLinearMul", "QLinearAdd"} <= set(kinds.values())
    assert error_at_the_tail(model, int8) < 0.02


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", ["avx512_vnni"], Storage("uint8", 8)),
        ("x86_64", ["avx2"], Storage("uint8", 7)),
        ("aarch64", ["asimddp"], Storage("int8", 8)),
    ],
)
def test_integers_are_laid_out_for_the_cpu(machine: str, flags: list[str], expected: Storage) -> None:
    assert storage_for(features_from(machine, flags), "uniform") == expected


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("storage", [Storage("uint8", 7), Storage("int8", 8), Storage("int8", 8, "symmetric")])
def test_the_layouts_of_other_cpus_are_right_on_this_one(activation: Activation, storage: Storage) -> None:
    model = networks.yolov8_network(activation=activation)
    plan = Planner(model).plan(absorb=storage.scheme == "uniform")
    seen = observe(model, plan.observed, lambda: [image()], histograms=False, threads=1, on_frame=lambda: None)
    ranges = {name: range_of(seen, name, "minmax") for name in plan.observed}
    ranges |= dict.fromkeys(plan.unit, Range(0.0, 1.0))
    int8 = write_pairs(model, plan, ranges, storage)
    assert error_at_the_tail(model, int8) < 0.02


def test_a_model_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    int8, _ = build(networks.yolov8_network(), tmp_path, rounding=False)
    path = tmp_path / "again.onnx"
    path.write_bytes(int8.SerializeToString())
    with pytest.raises(QuantizationError) as refusal:
        build_static(path, tmp_path / "target.onnx", PatchFrames(), spec_of())
    assert str(refusal.value) == (
        "again.onnx: got a model with QuantizeLinear nodes; expected FP32, this one is quantized already"
    )
    assert not (tmp_path / "target.onnx").exists()


def test_a_model_with_nothing_to_quantize_is_refused(tmp_path: Path) -> None:
    net = networks.Network()
    y = net.conv(net.block("images", 3, 8), 8, 4)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(net.model({y: (1, 4, 64, 64)}).SerializeToString())
    with pytest.raises(QuantizationError) as refusal:
        build_static(path, tmp_path / "target.onnx", PatchFrames(), spec_of())
    assert str(refusal.value) == (
        "tiny.onnx: got no Conv between the first one and the decode tail; expected at least one to quantize"
    )


def test_a_scheme_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(networks.yolov8_network().SerializeToString())
    options = StaticOptions(scheme="ternary")  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refusal:
        build_static(path, tmp_path / "target.onnx", PatchFrames(), spec_of(), options=options)
    assert str(refusal.value) == 'scheme: got "ternary"; expected uniform, symmetric or power_of_two'


def test_progress_tells_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(networks.yolov8_network().SerializeToString())
    told: list[tuple[str, int, int | None]] = []
    build_static(path, tmp_path / "int8.onnx", PatchFrames(3), spec_of(), progress=lambda *report: told.append(report))
    frames = [report for report in told if report[0] == "quantize"]
    assert frames == [("quantize", done, 6) for done in range(1, 7)]
    convs = [done for stage, done, total in told if stage == "round" and total]
    assert convs == list(range(1, convs[-1] + 1))
    assert [done for stage, done, _ in told if stage == "search"] == list(range(1, told[-1][1] + 1))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("yolov8n", PLAIN),
        ("yolo11n", StaticOptions()),
        ("yolov5n", replace(PLAIN, rounding=True)),
        ("yolov8n_dynamic", PLAIN),
    ],
    ids=["yolov8n", "yolo11n", "yolov5n", "yolov8n_dynamic"],
)
def test_real_models_are_quantized_small_and_whole(
    shared_data: Path, tmp_path: Path, name: str, options: StaticOptions
) -> None:
    fp32, target = shared_data / "models" / f"{name}.onnx", tmp_path / "int8.onnx"
    built = build_static(fp32, target, PatchFrames(2, (320, 320)), spec_of((640, 640)), options=options)
    assert built.notes == ()
    share = target.stat().st_size / fp32.stat().st_size
    assert share < 0.30
    int8, model = load_model(target), load_model(fp32)
    assert find_yolov8_head(int8) == find_yolov8_head(model)
    assert find_tail(int8).boundary == find_tail(model).boundary
    assert int8.graph.input == model.graph.input
