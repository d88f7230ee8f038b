"""Files that are ONNX by their form and an attack by what they hold."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mecha.errors import IntegrityError, UnsupportedModelError
from mecha.graph import bounds
from mecha.graph.bounds import MOST_PARTS, check_parts
from mecha.graph.inspect import metadata_size, metadata_stride, require_sizes
from mecha.graph.reading import parse_model
from mecha.graph.without_onnx import signature_at
from tests.graph.networks import yolov8_network


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


EMPTY_NODE, EMPTY_TENSOR, EMPTY_VALUE = field(1, b""), field(5, b""), field(13, b"")
BOMBS = {
    "nodes": field(7, EMPTY_NODE * (MOST_PARTS + 1)),
    "tensors": field(7, EMPTY_TENSOR * (MOST_PARTS + 1)),
    "values": field(7, EMPTY_VALUE * (MOST_PARTS + 1)),
    "attributes": field(7, field(1, field(5, b"") * (MOST_PARTS + 1))),
    "names of a node": field(7, field(1, field(1, b"") * (MOST_PARTS + 1))),
    "dimensions of a tensor": field(7, field(5, b"\x08\x01" * (MOST_PARTS + 1))),
    "metadata": field(14, b"") * (MOST_PARTS + 1),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_file_that_grows_when_it_is_parsed_is_refused_before(data: bytes) -> None:
    with pytest.raises(UnsupportedModelError) as refusal:
        parse_model(data, where="m.onnx")

    assert str(refusal.value) == (
        f"m.onnx: got a model of more than 1000000 parts in {len(data)} bytes; expected at most so many nodes, tensors "
        "and attributes"
    )
    assert refusal.value.hint == "No detector has so many: the file would fill the memory when it is read."


def test_parts_in_subgraphs_are_counted_too() -> None:
    inner = field(1, b"") * (MOST_PARTS // 2)
    data = field(7, field(1, field(5, field(6, inner) + field(6, inner + field(1, b"")))))

    with pytest.raises(UnsupportedModelError):
        check_parts(data, where="m.onnx")


def test_a_large_model_of_few_parts_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_HARMLESS_BYTES", 0)
    data = yolov8_network().SerializeToString()

    assert parse_model(data, where="m.onnx").graph.node


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_counting_ends_where_the_bytes_make_no_sense(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_HARMLESS_BYTES", 0)
    data = yolov8_network().SerializeToString()

    check_parts(data[: int(len(data) * share)], where="m.onnx")
    check_parts(b"\xff" * 100, where="m.onnx")


def nested(depth: int) -> bytes:
    graph = field(1, field(4, b"Relu"))
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x08" + field(8, b"\x10\x0d") + field(7, graph + field(12, field(1, b"y")))


@pytest.mark.parametrize("depth", [40, 1000, 10_000])
def test_subgraphs_in_subgraphs_without_end_are_refused(depth: int) -> None:
    with pytest.raises(IntegrityError, match="that cannot be parsed"):
        parse_model(nested(depth), where="m.onnx")


def test_a_few_subgraphs_in_each_other_are_read() -> None:
    assert parse_model(nested(10), where="m.onnx").graph.node


def with_tensor(change: Callable[[TensorProto], None]) -> bytes:
    model = yolov8_network()
    change(model.graph.initializer[0])
    return bytes(model.SerializeToString())


def too_large(tensor: TensorProto) -> None:
    tensor.ClearField("dims")
    tensor.dims.extend([10**9, 10**9])


def negative(tensor: TensorProto) -> None:
    tensor.dims[0] = -1


def of_no_type(tensor: TensorProto) -> None:
    tensor.data_type = 999


def cut_short(tensor: TensorProto) -> None:
    tensor.raw_data = tensor.raw_data[:-1]


def as_numbers(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.float_data.append(1.0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (too_large, r"got \d+ bytes; expected 4000000000000000000 for \[1000000000, 1000000000\]"),
        (negative, r"got the shape \[-1, .*\]; expected sizes of 0 or more"),
        (of_no_type, "got the type 999; expected one that ONNX knows"),
        (cut_short, r"got \d+ bytes; expected \d+ for "),
        (as_numbers, r"got 1 values; expected \d+ for the shape "),
    ],
)
def test_a_tensor_that_is_not_as_large_as_it_says_is_refused(change: Callable[[TensorProto], None], fault: str) -> None:
    with pytest.raises(IntegrityError, match=rf"^m\.onnx: tensor .+: {fault}.*; the file is damaged$"):
        parse_model(with_tensor(change), where="m.onnx")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.BOOL,
                                  TensorProto.FLOAT8E4M3FN, TensorProto.COMPLEX64, TensorProto.UINT8])  # fmt: skip
def test_tensors_of_every_type_are_measured_right(kind: int) -> None:
    tensor = helper.make_tensor("t", kind, [3, 3], [1] * 9)
    raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), "t")

    assert bounds._fault(tensor) is None
    assert bounds._fault(raw) is None


def written(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_a_node_that_lacks_its_input_is_refused(tmp_path: Path) -> None:
    model = yolov8_network()
    weights = model.graph.initializer.pop(0)
    model.graph.node.insert(0, helper.make_node("Identity", [], [weights.name], name="empty"))
    path = written(tmp_path / "m.onnx", model)

    with pytest.raises(IntegrityError) as refusal:
        signature_at(path, where="m.onnx")

    assert str(refusal.value).startswith("m.onnx: got a graph that is not well formed: Node(empty)")
    assert str(refusal.value).endswith("; expected an ONNX model")


@pytest.mark.parametrize("size", [0, -1, 100_000])
def test_an_image_of_no_size_is_refused(tmp_path: Path, size: int) -> None:
    model = yolov8_network()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size
    path = written(tmp_path / "m.onnx", model)

    with pytest.raises(UnsupportedModelError) as refusal:
        require_sizes(signature_at(path, where="m.onnx"), where="m.onnx")

    assert f"{size}, " in str(refusal.value)
    assert str(refusal.value).endswith("expected an image of 1 to 8192 pixels a side")


def test_metadata_that_names_no_size_is_passed_over() -> None:
    assert metadata_stride("1e999") == 32
    assert metadata_stride("[16, 10**9]") == 32
    assert metadata_size("[1000000000, 640]") is None
    assert metadata_size("9" * 5000) is None
