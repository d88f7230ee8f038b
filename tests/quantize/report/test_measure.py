"""What a report measures, against figures worked out by hand."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mecha.detect.images import decode_image
from mecha.detect.session import Session
from mecha.graph.cut import find_tail
from mecha.graph.index import GraphIndex
from mecha.quantize.dynamic import build_dynamic
from mecha.quantize.report.blocks import TAIL, blocks_of, float_convs_of
from mecha.quantize.report.measure import measure_report
from mecha.quantize.report.tensors import tensor_rows
from mecha.quantize.static import build_static
from tests.graph import networks
from tests.graph.networks import image
from tests.quantize.frames_of_noise import PatchFrames, spec_of


def small(nodes: list[onnx.NodeProto], **tensors: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 4])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def conv(source: str, weights: str, result: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weights], [result], name, kernel_shape=[1, 1])


def fp32_model() -> onnx.ModelProto:
    """Y = (2x) * 1, with the tensor m between."""
    one = np.ones((1, 1, 1, 1), np.float32)
    return small([conv("x", "w", "m", "first"), conv("m", "v", "y", "second")], w=2 * one, v=one)


def int8_model() -> onnx.ModelProto:
    """The same with m in steps of 1 from -128 to 127, and w stored as 1.9 = 19 * 0.1."""
    one = np.ones((1, 1, 1, 1), np.float32)
    return small(
        [
            helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["wf"], "w.dq", axis=0),
            conv("x", "wf", "m", "first"),
            helper.make_node("QuantizeLinear", ["m", "s", "z"], ["m8"], "m.q"),
            helper.make_node("DequantizeLinear", ["m8", "s", "z"], ["mf"], "m.dq"),
            conv("mf", "v", "y", "second"),
        ],
        w8=np.full((1, 1, 1, 1), 19, np.int8),
        ws=np.array([0.1], np.float32),
        wz=np.zeros(1, np.int8),
        s=np.array(1.0, np.float32),
        z=np.array(0, np.int8),
        v=one,
    )


def test_noise_over_signal_and_cosine_are_those_worked_out_by_hand() -> None:
    x = np.array([0.5, 1.0, -2.0, 4.0], np.float32).reshape(1, 1, 1, 4)
    rows, skipped = tensor_rows(fp32_model(), int8_model(), [x], threads=1)
    assert skipped == ()
    by_name = {row.tensor: row for row in rows}
    assert set(by_name) == {"w", "m", "y"}
    # FP32 gives 1, 2, -4, 8; INT8 0.95, 1.9, -3.8, 7.6, rounded to 1, 2, -4, 8: no noise after the pair.
    m = by_name["m"]
    assert (m.kind, m.stored, m.snr, m.sqnr_db, m.cosine) == ("activation", True, 0.0, None, 1.0)
    assert (m.node, m.op_type) == ("first", "Conv")
    assert m.fp32_range == m.int8_range == (-4.0, 8.0)
    # The weight is 2 and 1.9: noise 0.01 over a signal of 4.
    w = by_name["w"]
    assert (w.kind, w.stored) == ("constant", True)
    assert w.snr == pytest.approx(0.0025, rel=1e-4)
    assert w.sqnr_db == pytest.approx(10 * math.log10(400), abs=1e-3)
    assert w.mse == pytest.approx(0.01, rel=1e-4)
    assert w.cosine == pytest.approx(1.0)
    assert rows[0].tensor == "w"


def test_frames_are_summed_before_they_are_divided() -> None:
    # 2x is 0.6, 0, 0, 0: INT8 gives 0.57, rounded to 1. And 2x is 4, 0, 0, 3: 3.8 and 2.85, rounded to 4 and 3.
    frames = [np.array(values, np.float32).reshape(1, 1, 1, 4) for values in ([0.3, 0, 0, 0], [2, 0, 0, 1.5])]
    rows, _ = tensor_rows(fp32_model(), int8_model(), frames, threads=1)
    m = next(row for row in rows if row.tensor == "m")
    assert m.snr == pytest.approx(0.16 / 25.36, rel=1e-5)
    assert m.mse == pytest.approx(0.16 / 8, rel=1e-5)
    assert m.cosine == pytest.approx(25.6 / math.sqrt(25.36 * 26), rel=1e-5)
    assert sum(m.histogram) == 8
    assert m.histogram[0] == 5


def test_a_tensor_that_is_not_finite_is_named_and_not_compared() -> None:
    x = np.array([np.inf, 1.0, 1.0, 1.0], np.float32).reshape(1, 1, 1, 4)
    rows, skipped = tensor_rows(fp32_model(), int8_model(), [x], threads=1)
    assert [row.tensor for row in rows] == ["w"]
    assert skipped == ("m", "y")


def written(model: onnx.ModelProto, folder: Path) -> tuple[Path, Path]:
    fp32 = folder / "model.onnx"
    fp32.write_bytes(model.SerializeToString())
    return fp32, folder / "model-int8.onnx"


def test_a_static_file_is_compared_after_every_activation(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    fp32, int8 = written(model, tmp_path)
    build_static(fp32, int8, PatchFrames(), spec_of())
    told: list[tuple[str, int, int | None]] = []
    report = measure_report(fp32, int8, PatchFrames(), spec_of(), threads=1, progress=lambda *step: told.append(step))
    assert told == [("report", number, 3) for number in range(4)]
    assert [row.snr for row in report.tensors] == sorted((row.snr for row in report.tensors), reverse=True)
    kinds = {kind: [row for row in report.tensors if row.kind == kind] for kind in ("activation", "constant", "output")}
    muls = [
        node.output[0] for node in model.graph.node if node.op_type == "Mul" and node.name not in find_tail(model).nodes
    ]
    assert set(muls) <= {row.tensor for row in kinds["activation"]}
    assert not any(row.op_type == "Sigmoid" for row in report.tensors)
    assert all(0 < row.snr < 0.05 for row in kinds["activation"] if row.stored)
    assert all(row.snr < 1e-3 for row in kinds["constant"])
    assert [row.tensor for row in kinds["output"]] == [value.name for value in model.graph.output]
    assert all(sum(row.histogram) > 0 for row in report.tensors)
    assert report.frames == 4
    assert report.frames_description == "patches"


def test_a_row_is_what_two_sessions_give(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    fp32, int8 = written(model, tmp_path)
    build_static(fp32, int8, PatchFrames(), spec_of())
    quantized = onnx.load_model(int8)
    rows, _ = tensor_rows(model, quantized, [image()], threads=1)
    output = next(row for row in rows if row.kind == "output")
    ours, theirs = (Session(file, threads=1).run(image())[0].astype(np.float64) for file in (fp32, int8))
    assert output.snr == pytest.approx(float(((ours - theirs) ** 2).sum() / (ours**2).sum()), rel=1e-3)
    assert output.int8_range == pytest.approx((theirs.min(), theirs.max()), rel=1e-4)


def test_a_dynamic_file_is_compared_at_its_convs_and_its_weights(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    fp32, int8 = written(model, tmp_path)
    build_dynamic(fp32, int8)
    report = measure_report(fp32, int8, PatchFrames(), spec_of(), threads=1)
    kinds = [row.kind for row in report.tensors]
    assert kinds.count("output") == 1
    assert kinds.count("constant") > 10
    assert kinds.count("activation") > 10
    assert all(row.snr < 0.05 for row in report.tensors)
    assert all(block.precision == "INT8" for block in report.blocks if block.convs and block.name != TAIL)


def test_a_dynamic_model_is_compared_at_the_size_it_runs_at(tmp_path: Path) -> None:
    fp32, int8 = written(networks.yolov8_network(size=None), tmp_path)
    spec = spec_of()
    spec = spec.model_copy(update={"input": spec.input.model_copy(update={"dynamic": True})})
    build_static(fp32, int8, PatchFrames(), spec)
    report = measure_report(fp32, int8, PatchFrames(), spec, threads=1)
    assert {"activation", "constant", "output"} == {row.kind for row in report.tensors}
    assert sum(block.int8_ms for block in report.blocks) > 0


def test_samples_show_both_precisions_in_pictures_of_the_size_they_say(tmp_path: Path) -> None:
    fp32, int8 = written(networks.yolov8_network(), tmp_path)
    build_static(fp32, int8, PatchFrames(), spec_of())
    frames = PatchFrames(count=5, size=(480, 960))
    report = measure_report(fp32, int8, frames, spec_of(), threads=1)
    assert len(report.samples) == 3
    for sample in report.samples:
        assert (sample.width, sample.height) == (480, 240)
        for jpeg in (sample.fp32_jpeg, sample.int8_jpeg):
            assert decode_image(jpeg, where="sample").shape == (240, 480, 3)


def test_a_model_of_no_family_has_no_samples(tmp_path: Path) -> None:
    fp32, int8 = written(networks.yolov8_network(), tmp_path)
    build_static(fp32, int8, PatchFrames(), spec_of())
    report = measure_report(fp32, int8, PatchFrames(), spec_of().model_copy(update={"family": None}), threads=1)
    assert report.samples == ()
    assert report.tensors


def test_each_float_conv_has_its_place(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    fp32, int8 = written(model, tmp_path)
    build_static(fp32, int8, PatchFrames(), spec_of())
    places = [conv.place for conv in float_convs_of(model, onnx.load_model(int8))]
    assert places[0] == "first"
    assert places.count("last") == 4
    assert places[-1] == "tail"
    assert "body" not in places


def renamed(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    convs = [node for node in copy.graph.node if node.op_type == "Conv"]
    for number, node in enumerate(convs):
        node.name = name.format(number=number, module=number // 2)
    return copy


def test_blocks_are_the_modules_that_names_tell(tmp_path: Path) -> None:
    model = renamed(networks.yolov8_network(), "/net/model.{module}/cv{number}/Conv")
    blocks = list(dict.fromkeys(blocks_of(model).values()))
    assert [block for block in blocks if block != TAIL][:3] == ["/net/model.0", "/net/model.1", "/net/model.2"]
    assert TAIL in blocks


@pytest.mark.parametrize("name", ["Conv_{number}", "/only/one/Conv_{number}", "{number}"])
def test_without_names_that_tell_modules_a_block_is_a_conv_with_what_follows(name: str) -> None:
    model = renamed(networks.yolov8_network(), name)
    blocks = blocks_of(model)
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"][:-1]
    assert [block.split(" (")[0] for block in dict.fromkeys(blocks.values()) if block != TAIL] == convs
    assert blocks[convs[0]] == f"{convs[0]} (3x3, 3 to 16)"
    assert blocks["Mul.2"] == blocks[convs[0]]


def test_every_node_that_computes_is_in_a_block() -> None:
    model = networks.yolov8_network()
    constants = GraphIndex.of(model).constants
    assert set(blocks_of(model)) == {node.name for node in model.graph.node if node.output[0] not in constants}
