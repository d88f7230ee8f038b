"""Frames at their exact padded rectangle: same objects, same numbers as the file run whole, and who stays square."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from mecha.detect.decode import detr, end_to_end, nanodet, yolov5, yolov8, yolox
from mecha.detect.decode.candidates import Decoder, DecodeTarget
from mecha.detect.decode.registry import planner_of
from mecha.detect.detector import Detector
from mecha.detect.images import read_image
from mecha.detect.preprocess import Preprocessor
from mecha.store.spec import ModelSpec
from tests.detect.blob_detector import GREEN, RED, blob_detector, blob_spec, scene

DYNAMIC = blob_spec(128, dynamic=True)


def loaded(tmp_path: Path, model: bytes, spec: ModelSpec = DYNAMIC, **options: Any) -> Detector:
    file = tmp_path / "blobs.onnx"
    file.write_bytes(model)
    return Detector.from_file(file, spec, precision="FP32", threads=1, **options)


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    return loaded(tmp_path, blob_detector(128, dynamic=True))


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        ((72, 128), (80, 128)),
        ((128, 72), (128, 80)),
        ((720, 1280), (80, 128)),
        ((64, 64), (128, 128)),
        ((2, 300), (16, 128)),
        ((300, 2), (128, 16)),
        ((1, 1), (128, 128)),
        ((112, 128), (112, 128)),
        ((113, 128), (128, 128)),
    ],
)
def test_a_frame_is_padded_to_the_next_multiples_of_the_stride(
    detector: Detector, frame: tuple[int, int], size: tuple[int, int]
) -> None:
    assert detector.stride == 16
    assert detector.input_size == (128, 128)
    assert detector.size_for(scene(size=frame)) == size
    assert len(detector(scene(size=frame))) == 0


@pytest.mark.parametrize("size", [(64, 128), (128, 64), (72, 128), (128, 128), (360, 640)])
def test_the_rectangle_shows_what_the_square_shows(tmp_path: Path, detector: Detector, size: tuple[int, int]) -> None:
    square = loaded(tmp_path, blob_detector(128, dynamic=True), square=True)
    assert square.stride is None
    side = size[1] // 16 if size[1] > size[0] else size[0] // 16
    frame = scene((2 * side, side, side, RED), (side, 3 * side, side, GREEN), size=size)
    found, expected = detector(frame), square(frame)
    assert found.to_coco(1) != []
    assert [one["category_id"] for one in found.to_coco(1)] == [one["category_id"] for one in expected.to_coco(1)]
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=size[1] / 64)
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.2)


def test_a_frame_gives_the_same_whatever_was_run_before(tmp_path: Path, detector: Detector) -> None:
    frames = [scene((8, 8, 16, RED), size=size) for size in ((64, 128), (128, 64), (128, 128), (40, 128))]
    alone = [loaded(tmp_path, blob_detector(128, dynamic=True))(frame) for frame in frames]
    for _ in range(2):
        for frame, expected in zip(frames, alone, strict=True):
            assert detector(frame).to_coco(1) == expected.to_coco(1)


def test_a_copy_from_the_cache_runs_at_rectangles_too(tmp_path: Path, detector: Detector) -> None:
    frame = scene((8, 8, 16, RED), size=(64, 128))
    again = loaded(tmp_path, blob_detector(128, dynamic=True))
    assert again.stride == 16
    assert again(frame).to_coco(1) == detector(frame).to_coco(1)
    assert loaded(tmp_path, blob_detector(128, dynamic=True), square=True).stride is None


def attending(model: bytes, *, constant: bool) -> bytes:
    """Put a reshape to tokens and back before the first convolution, as attention has it: constants, or the shape."""
    graph = onnx.load_from_string(model)
    for node in graph.graph.node:
        node.input[:] = ["seen" if name == "images" else name for name in node.input]
    sizes = {"tokens": [0, 3, -1], "back": [1, 3, 128, 128]}
    tensors = [numpy_helper.from_array(np.array(size, np.int64), name) for name, size in sizes.items()]
    nodes = [helper.make_node("Reshape", ["images", "tokens"], ["flat"], "Flat")]
    if constant:
        nodes.append(helper.make_node("Reshape", ["flat", "back"], ["seen"], "Back"))
    else:
        nodes.append(helper.make_node("Shape", ["images"], ["size"], "Size"))
        nodes.append(helper.make_node("Reshape", ["flat", "size"], ["seen"], "Back"))
    everything = [*nodes, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(everything)
    graph.graph.initializer.extend(tensors)
    return bytes(graph.SerializeToString())


def test_a_model_that_is_reshaped_by_constants_stays_square(tmp_path: Path) -> None:
    frame = scene((8, 8, 16, RED), size=(64, 128))
    by_shape = loaded(tmp_path, attending(blob_detector(128, dynamic=True), constant=False))
    assert by_shape.stride == 16
    by_constant = loaded(tmp_path, attending(blob_detector(128, dynamic=True), constant=True))
    assert by_constant.stride is None
    assert by_constant.size_for(frame) == (128, 128)
    assert set(by_constant(frame).class_ids) == set(by_shape(frame).class_ids) == {0}


def test_a_model_whose_tail_gives_something_else_than_what_is_decoded_here_stays_square(tmp_path: Path) -> None:
    assert loaded(tmp_path, blob_detector(128, dynamic=True, tail="moved")).stride is None


def test_a_static_file_and_one_axis_that_is_fixed_stay_square(tmp_path: Path) -> None:
    assert loaded(tmp_path, blob_detector(128), blob_spec(128)).stride is None
    assert loaded(tmp_path, blob_detector(128)).stride is None
    model = onnx.load_from_string(blob_detector(128, dynamic=True))
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 128
    assert loaded(tmp_path, model.SerializeToString()).stride is None


def test_a_size_that_is_no_multiple_of_the_stride_stays_square(tmp_path: Path) -> None:
    assert loaded(tmp_path, blob_detector(dynamic=True), blob_spec(120, dynamic=True)).stride is None


def test_stretched_frames_and_other_providers_take_the_whole_input(tmp_path: Path) -> None:
    stretched = DYNAMIC.model_copy(update={"preprocessing": "raw"})
    assert loaded(tmp_path, blob_detector(128, dynamic=True), stretched).stride is None
    elsewhere = loaded(tmp_path, blob_detector(128, dynamic=True), provider="TensorrtExecutionProvider")
    assert elsewhere.stride is None


SMALL, WIDE, TALL = ((DecodeTarget(*size, 3)) for size in ((64, 64), (64, 128), (128, 64)))


def _cells(target: DecodeTarget) -> int:
    return sum(target.height // stride * (target.width // stride) for stride in (8, 16, 32))


def _levels(target: DecodeTarget, channels: int) -> list[tuple[int, ...]]:
    return [(1, channels, target.height // stride, target.width // stride) for stride in (8, 16)]


@pytest.mark.parametrize("target", [WIDE, TALL])
@pytest.mark.parametrize(
    ("made", "shapes"),
    [
        (
            lambda target: yolov8.HeadDecoder(2, 8, target.height),
            lambda target: [*_levels(target, 32), *_levels(target, 3)],
        ),
        (yolov8.ExportedDecoder, lambda target: [(1, 7, _cells(target))]),
        (
            lambda target: yolov5.HeadDecoder([np.ones((3, 2), np.float32)] * 2, target.height),
            lambda target: _levels(target, 24),
        ),
        (lambda target: yolov5.plan(None, target).decoder, lambda target: [(1, 100, 8)]),
        (
            lambda target: yolox.HeadDecoder(target.height),
            lambda target: [
                level for three in zip(*(_levels(target, n) for n in (4, 1, 3)), strict=True) for level in three
            ],
        ),
        (lambda target: yolox.plan(None, target).decoder, lambda target: [(1, _cells(target), 8)]),
        (lambda target: end_to_end.plan(None, target).decoder, lambda _: [(1, 10, 6)]),
        (lambda target: detr.plan(None, target).decoder, lambda _: [(1, 10, 3), (1, 10, 4)]),
        (lambda target: nanodet.plan(None, target).decoder, lambda target: [(1, _cells(target), 3 + 4 * 8)]),
    ],
)
def test_a_decoder_taken_to_another_size_is_the_one_made_for_it(made: Any, shapes: Any, target: DecodeTarget) -> None:
    rng = np.random.default_rng(0)
    outputs = [rng.uniform(0, 1, shape).astype(np.float32) for shape in shapes(target)]
    decoder: Decoder = made(SMALL)
    # Wide and tall have the same number of anchors: what was kept for one must not be used for the other.
    other = decoder.at(target.width, target.height).at(target.height, target.width)
    for found, expected in zip(other.raw(outputs), made(target).raw(outputs), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.shared_data
@pytest.mark.parametrize("size", [320, 416, 640])
def test_a_real_model_gives_cut_what_it_gives_whole_at_rectangles(shared_data: Path, size: int) -> None:
    file = shared_data / "models" / "yolov8n_dynamic.onnx"
    detector = Detector(file, precision="fp32", threads=1, input_size=size)
    assert (detector.stride, detector.cut) == (32, True)
    whole = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    exported = planner_of("yolov8", where="whole")(None, DecodeTarget(size, size, 80)).decoder
    bus, tall = (read_image(shared_data / "images" / "bus.jpg") for _ in range(2))
    frames = [bus, tall[:, :200], bus[:300], bus[:20], bus[:1, :1]]
    sizes = set()
    for frame in frames:
        scores, boxes = detector.raw(frame)
        tensor, _ = Preprocessor("yolo", size, size, stride=32)(frame)
        sizes.add(tensor.shape)
        expected_scores, expected_boxes = exported.raw(whole.run(None, {"images": tensor}))
        assert np.abs(scores - expected_scores).max() < 0.002
        assert np.abs(boxes - expected_boxes).max() < 0.5
    assert len(sizes) >= 4
