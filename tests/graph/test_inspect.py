from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from mecha.errors import UnsupportedModelError
from mecha.graph.inspect import ModelSignature, TensorInfo, inspect_model, require_detector
from mecha.graph.inspect import signature_of as signature_of_parsed
from mecha.graph.reading import parse_model
from tests.graph import networks


def signature_of(model: onnx.ModelProto) -> ModelSignature:
    return signature_of_parsed(parse_model(model.SerializeToString(), where="model.onnx"))


@pytest.mark.parametrize(
    ("make", "family", "class_count"),
    [
        (networks.yolov8_network, "yolov8", 3),
        (lambda: networks.yolov8_network(size=None), "yolov8", 3),
        (lambda: networks.yolov8_network(joint=True), "yolov8", 3),
        (lambda: networks.yolov8_network(classes=32), "yolov8", 32),
        (lambda: networks.yolov8_network(classes=1, metadata={}), "yolov8", 1),
        (lambda: networks.yolov8_network(named=False), "yolov8", 3),
        (networks.yolov5_network, "yolov5", 3),
        (lambda: networks.yolov5_network(dynamic_names=False), "yolov5", 3),
        (lambda: networks.yolov5_network(classes=1), "yolov5", 1),
        (networks.yolox_network, "yolox", 3),
        (lambda: networks.yolox_network(classes=1), "yolox", 1),
        (lambda: networks.yolox_network(decoded=True), "yolov5", 3),
        (networks.nanodet_network, "nanodet", 3),
        (lambda: networks.nanodet_network(by_level=True), "nanodet", 3),
        (networks.end_to_end_network, "end_to_end", None),
        (networks.two_output_network, "detr", 3),
        (lambda: networks.as_dynamic(networks.end_to_end_network(), ("batch", 10, "anchors")), "end_to_end", None),
        (lambda: networks.as_dynamic(networks.two_output_network(), ("b", "q", 3), ("b", "r", 4)), "detr", 3),
        (networks.classifier_network, None, None),
    ],
)
def test_the_family_is_told_by_structure(
    make: Callable[[], onnx.ModelProto], family: str | None, class_count: int | None
) -> None:
    signature = signature_of(make())
    assert (signature.family, signature.class_count) == (family, class_count)


def test_names_of_nodes_and_tensors_do_not_matter() -> None:
    model = networks.yolox_network()
    renamed = {name: f"x{number}" for number, name in enumerate(sorted(_tensor_names(model)))}
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed[name] for name in node.output]
    model.graph.output[0].name = renamed[model.graph.output[0].name]
    assert signature_of(model).family == "yolox"


def _tensor_names(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output}


@pytest.mark.parametrize("task", ["segment", "pose", "classify", "obb"])
def test_a_model_that_says_it_does_something_else_has_no_family(task: str) -> None:
    assert signature_of(networks.yolov8_network(metadata={"task": task})).family is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'cone', 1: 'ball', 2: 'tag'}", ("cone", "ball", "tag")),
        ("['cone', 'ball', 'tag']", ("cone", "ball", "tag")),
        ("{2: 'tag', 0: 'cone'}", ("cone", "class_1", "tag")),
        ("{}", None),
        ("{'a': 'cone'}", None),
        ("{-1: 'cone'}", None),
        ("{0: 'cone', 1000000: 'ball'}", None),
        ("{0: 'cone'", None),
        ("__import__('os')", None),
        ("(" * 5000, None),
    ],
)
def test_class_names_are_read_as_a_literal_or_not_at_all(text: str, names: tuple[str, ...] | None) -> None:
    assert signature_of(networks.yolov8_network(metadata={"names": text})).names == names


@pytest.mark.parametrize(
    ("imgsz", "stride", "size", "expected_stride"),
    [("[480, 640]", "32", (480, 640), 32), ("320", "[8, 16, 64]", (320, 320), 64), ("[1]", "none", None, 32)],
)
def test_size_and_stride_come_from_the_metadata(
    imgsz: str, stride: str, size: tuple[int, int] | None, expected_stride: int
) -> None:
    signature = signature_of(networks.yolov8_network(metadata={"imgsz": imgsz, "stride": stride}))
    assert (signature.metadata_size, signature.stride) == (size, expected_stride)


def test_a_signature_says_what_goes_in_and_what_comes_out() -> None:
    signature = signature_of(networks.yolov8_network(size=None))
    assert signature.inputs == (TensorInfo("images", ("batch", 3, "height", "width"), "float32"),)
    assert signature.outputs[0].shape == ("batch", 7, "anchors")
    assert (signature.dynamic, signature.input_size, signature.opset, signature.quantized) == (True, None, 14, False)
    assert signature.metadata["task"] == "detect"


def test_a_model_that_is_no_detector_is_refused_with_what_was_seen() -> None:
    signature = signature_of(networks.classifier_network())
    with pytest.raises(UnsupportedModelError) as refusal:
        require_detector(signature, where="classifier.onnx")
    assert str(refusal.value) == (
        f"classifier.onnx: got outputs {signature.outputs[0].name} [1, 10] float32; "
        "expected a detector's: yolov8, yolov5, yolox, end_to_end, detr, nanodet"
    )
    assert refusal.value.hint


def test_a_detector_that_takes_no_float_image_is_refused() -> None:
    model = networks.yolov8_network()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    signature = signature_of(model)
    assert signature.family == "yolov8"
    with pytest.raises(UnsupportedModelError) as refusal:
        require_detector(signature, where="half.onnx")
    assert str(refusal.value) == (
        "half.onnx: got inputs images [1, 3, 64, 64] float16; expected one image [1, 3, height, width] float32"
    )


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "family", "classes", "size"),
    [
        ("yolov8n", "yolov8", 80, (640, 640)),
        ("yolov8n_dynamic", "yolov8", 80, None),
        ("yolo11n", "yolov8", 80, (640, 640)),
        ("yolov5n", "yolov5", 80, (640, 640)),
        ("yolox_nano", "yolox", 80, (416, 416)),
        ("yolov8n_int8_broken", "yolov8", 80, (640, 640)),
        ("deepsort_feature", None, None, (64, 128)),
    ],
)
def test_real_models_are_recognised(
    shared_data: Path, name: str, family: str | None, classes: int | None, size: tuple[int, int] | None
) -> None:
    signature = inspect_model(shared_data / "models" / f"{name}.onnx")
    assert (signature.family, signature.class_count, signature.input_size) == (family, classes, size)
    assert signature.quantized == name.endswith("broken")


def test_the_embedded_model_is_recognised() -> None:
    import mecha.arena

    signature = inspect_model(Path(mecha.arena.__file__).parent / "arena-n.onnx")
    assert (signature.family, signature.names) == ("yolov8", ("cone", "ball", "crate", "tag"))


def test_weights_are_not_decoded_to_inspect_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = networks.Network()
    output = net.add("Reshape", net.conv("images", 3, 7), net.const([1, 7, -1], "int64"))  # type: ignore[arg-type]
    model = net.model({output: (1, 7, 4096)}, metadata={"names": "['a', 'b', 'c']"})
    big = onnx.TensorProto(name="unread", data_type=onnx.TensorProto.FLOAT, dims=[50_000], raw_data=bytes(200_000))
    model.graph.initializer.append(big)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    decode, decoded = onnx.numpy_helper.to_array, set()

    def noted(tensor: onnx.TensorProto, base_dir: str = "") -> object:
        decoded.add(tensor.name)
        return decode(tensor, base_dir)

    monkeypatch.setattr(onnx.numpy_helper, "to_array", noted)
    assert inspect_model(path).family == "yolov8"
    assert "unread" not in decoded
