from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mecha.errors import IntegrityError, QuantizationError
from mecha.graph.index import GraphIndex
from mecha.graph.reading import parse_model
from mecha.quantize.dynamic import build_dynamic
from mecha.quantize.node_latency import conv_times, node_times, owned_times, without_pairs
from mecha.quantize.plan import activation_of
from mecha.quantize.static import build_static
from tests.graph import networks
from tests.graph.networks import Activation, image
from tests.quantize.frames_of_noise import PatchFrames, spec_of


def tensor() -> list[NDArray[np.float32]]:
    return [image()]


def built(model: onnx.ModelProto, folder: Path, method: str) -> Path:
    fp32, target = folder / "model.onnx", folder / f"{method}.onnx"
    fp32.write_bytes(model.SerializeToString())
    if method == "static":
        build_static(fp32, target, PatchFrames(), spec_of())
    elif method == "dynamic":
        build_dynamic(fp32, target)
    return fp32 if method == "float" else target


def convs_of(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def test_every_node_that_runs_has_a_time(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    times = node_times(model.SerializeToString(), tensor(), threads=1, runs=3)
    assert len(times) > len(convs_of(model))
    assert all(ms > 0 for ms in times.values())
    assert node_times(built(model, tmp_path, "float"), tensor(), threads=1, runs=1).keys() == times.keys()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("activation", ["silu", "relu", "relu6", "hardswish", "none"])
@pytest.mark.parametrize("method", ["float", "static"])
def test_every_conv_has_a_time_under_its_own_name(
    tmp_path: Path, activation: Activation, method: str, *, named: bool
) -> None:
    model = networks.yolov8_network(activation=activation, named=named)
    times = conv_times(built(model, tmp_path, method), tensor(), threads=1, runs=2)
    assert list(times) == convs_of(parse_model(model.SerializeToString(), where="model"))
    assert min(times.values()) > 0


def test_the_convs_of_a_dynamic_file_are_found_by_those_of_the_fp32_model(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    times = conv_times(built(model, tmp_path, "dynamic"), tensor(), threads=1, runs=2, reference=model)
    assert list(times) == convs_of(model)
    assert min(times.values()) > 0


def test_the_time_of_a_conv_holds_that_of_its_activation(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    file = built(model, tmp_path, "static")
    (owned,) = owned_times([file], tensor(), threads=1, reference=model, runs=2)
    index = GraphIndex.of(model)
    integer = model.graph.node[3]
    assert integer.op_type == "Conv"
    assert [node.op_type for node in activation_of(index, integer) if owned[node.name] > 0] == ["Sigmoid", "Mul"]


def test_all_the_time_of_a_model_is_given_to_nodes_it_was_made_from(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    files = [built(model, tmp_path, method) for method in ("float", "static", "dynamic")]
    for file, owned in zip(files, owned_times(files, tensor(), threads=1, reference=model, runs=2), strict=True):
        assert set(owned) <= {node.name for node in model.graph.node}
        assert sum(owned.values()) > 0.5 * sum(node_times(file, tensor(), threads=1, runs=2).values())


def test_a_conv_that_was_fused_with_what_follows_is_found(tmp_path: Path) -> None:
    net = networks.Network(activation="none")
    first = net.conv("images", 3, 16, kernel=3, stride=2)
    second = net.conv(net.add("Relu", first), 16, 16, kernel=3)
    joined = net.add("Relu", net.add("Add", second, net.add("Relu", first)))
    model = net.model({net.conv(joined, 16, 8): (1, 8, 32, 32)})
    times = conv_times(model.SerializeToString(), tensor(), threads=1, runs=2)
    assert list(times) == convs_of(model)
    assert min(times.values()) > 0


def test_readers_of_a_pair_read_what_went_into_it(tmp_path: Path) -> None:
    model = networks.yolov8_network()
    plain = without_pairs(onnx.load_model(built(model, tmp_path, "static")))
    clips = [node for node in plain.graph.node if node.op_type == "Clip"]
    kinds = [node.op_type for node in plain.graph.node if node.op_type not in {"DequantizeLinear", "Clip"}]
    assert kinds == [node.op_type for node in model.graph.node]
    assert not clips
    assert {node.op_type for node in plain.graph.node if node.op_type == "QuantizeLinear"} == set()
    first = next(node for node in plain.graph.node if node.name == "Sigmoid.4")
    assert list(first.input) == ["t3_0"]


def test_nothing_is_left_behind_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    node_times(networks.yolov8_network().SerializeToString(), tensor(), threads=1, runs=1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(IntegrityError, match=r"^model: "):
        node_times(b"\x08\x07 no model", tensor(), threads=1)


def test_an_input_that_does_not_fit_is_a_sentence() -> None:
    model = networks.yolov8_network().SerializeToString()
    with pytest.raises(QuantizationError, match=r"^onnxruntime cannot run the model: "):
        node_times(model, [np.zeros((1, 3, 32, 32), np.float32)], threads=1)
