"""Each family's decoder against the formula written as loops, and on whole graphs of the family's signature."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.detect.decode import detr, end_to_end, nanodet, yolov5, yolox
from mecha.detect.decode.candidates import Candidates, DecodeTarget, corners
from mecha.detect.decode.registry import DECODABLE, planner_of
from mecha.detect.detector import Detector
from mecha.detect.images import read_image
from mecha.detect.preprocess import Preprocessor
from mecha.detect.session import Session
from mecha.errors import UnsupportedModelError
from mecha.graph.cut import cut_at
from mecha.graph.family import FAMILIES
from mecha.graph.prepare import fix_input_size
from mecha.graph.reading import load_model, parse_model
from tests.detect.tails import ANCHORS, yolov5_detector
from tests.graph import networks

CLASSES = 3
HEIGHT, WIDTH = 64, 96
TARGET = DecodeTarget(HEIGHT, WIDTH, CLASSES, where="tiny")
SQUARE = DecodeTarget(64, 64, CLASSES, where="tiny")
STRIDES = (8, 16)
CELLS = sum(HEIGHT // stride * WIDTH // stride for stride in STRIDES)

Arrays = list[NDArray[np.float32]]
Box = tuple[float, float, float, float]
Found = list[tuple[Box, float, int]]
seeds, thresholds, every = st.integers(0, 10_000), st.floats(0.01, 0.9), st.booleans()


def test_every_family_that_is_recognised_can_be_decoded() -> None:
    assert set(DECODABLE) == set(FAMILIES)


def s(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def around(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def picked(box: Box, scores: list[float], threshold: float, every_class: bool) -> Found:
    """What one anchor contributes: all classes that pass, or its best."""
    classes = range(len(scores)) if every_class else [max(range(len(scores)), key=scores.__getitem__)]
    return [(box, scores[index], index) for index in classes if scores[index] >= threshold]


def assert_same(found: Candidates, expected: Found, threshold: float) -> None:
    """Compare in order; what lies at the threshold may round to either side."""
    ours = [
        (tuple(box), float(score), int(index))
        for box, score, index in zip(found.boxes_xyxy, found.scores, found.class_ids, strict=True)
        if score > threshold + 1e-5
    ]
    theirs = [item for item in expected if item[1] > threshold + 1e-5]
    assert [item[2] for item in ours] == [item[2] for item in theirs]
    np.testing.assert_allclose([item[1] for item in ours], [item[1] for item in theirs], atol=1e-5)
    np.testing.assert_allclose(
        np.array([item[0] for item in ours]).reshape(-1, 4),
        np.array([item[0] for item in theirs]).reshape(-1, 4),
        rtol=1e-4,
        atol=1e-3,
    )
    assert (found.scores >= threshold - 1e-5).all()
    assert [array.dtype.name for array in (found.boxes_xyxy, found.scores, found.class_ids)] == [
        "float32",
        "float32",
        "int32",
    ]


def random(seed: int, *shapes: tuple[int, ...], spread: float = 2.0) -> Arrays:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, spread, shape).astype(np.float32) for shape in shapes]


@settings(max_examples=25, deadline=None)
@given(seeds, thresholds, every)
def test_yolov5_heads_are_decoded_as_the_formula_says(seed: int, threshold: float, every_class: bool) -> None:
    width = 5 + CLASSES
    outputs = random(seed, *((1, 3 * width, HEIGHT // stride, WIDTH // stride) for stride in STRIDES))
    anchors = [np.array(shapes, np.float32) for shapes in ANCHORS]
    expected: Found = []
    for level, shapes, stride in zip(outputs, anchors, STRIDES, strict=True):
        for shape in range(3):
            for row in range(HEIGHT // stride):
                for column in range(WIDTH // stride):
                    v = [s(float(x)) for x in level[0, shape * width : (shape + 1) * width, row, column]]
                    box = around(
                        (2 * v[0] - 0.5 + column) * stride,
                        (2 * v[1] - 0.5 + row) * stride,
                        (2 * v[2]) ** 2 * float(shapes[shape, 0]),
                        (2 * v[3]) ** 2 * float(shapes[shape, 1]),
                    )
                    expected += picked(box, [v[4] * score for score in v[5:]], threshold, every_class)
    found = yolov5.HeadDecoder(anchors, HEIGHT).candidates(outputs, threshold, every_class=every_class)
    assert_same(found, expected, threshold)


@settings(max_examples=25, deadline=None)
@given(seeds, thresholds, every)
def test_exported_yolov5_boxes_are_centres_and_sizes_in_pixels(seed: int, threshold: float, every_class: bool) -> None:
    output = np.random.default_rng(seed).random((1, 50, 5 + CLASSES), dtype=np.float32)
    output[..., :4] *= 64
    expected: Found = []
    for row in output[0].tolist():
        expected += picked(around(*row[:4]), [row[4] * score for score in row[5:]], threshold, every_class)
    found = yolov5.plan(None, TARGET).decoder.candidates([output], threshold, every_class=every_class)
    assert_same(found, expected, threshold)


def yolox_box(values: list[float], column: int, row: int, stride: int) -> Box:
    x, y, width, height = values
    return around((x + column) * stride, (y + row) * stride, math.exp(width) * stride, math.exp(height) * stride)


@settings(max_examples=25, deadline=None)
@given(seeds, thresholds, every)
def test_yolox_heads_are_decoded_as_the_formula_says(seed: int, threshold: float, every_class: bool) -> None:
    outputs: Arrays = []
    expected: Found = []
    for stride in STRIDES:
        size = HEIGHT // stride, WIDTH // stride
        level = random(seed + stride, (1, 4, *size), (1, 1, *size), (1, CLASSES, *size))
        outputs += level
        for row in range(size[0]):
            for column in range(size[1]):
                box = yolox_box([float(x) for x in level[0][0, :, row, column]], column, row, stride)
                objectness = s(float(level[1][0, 0, row, column]))
                scores = [objectness * s(float(x)) for x in level[2][0, :, row, column]]
                expected += picked(box, scores, threshold, every_class)
    found = yolox.HeadDecoder(HEIGHT).candidates(outputs, threshold, every_class=every_class)
    assert_same(found, expected, threshold)


@settings(max_examples=25, deadline=None)
@given(seeds, thresholds, every)
def test_exported_yolox_boxes_are_offsets_of_their_cells(seed: int, threshold: float, every_class: bool) -> None:
    rng = np.random.default_rng(seed)
    output = np.concatenate(
        [rng.normal(0, 1, (1, CELLS, 4)), rng.random((1, CELLS, 1 + CLASSES))], axis=2, dtype=np.float32
    )
    expected: Found = []
    anchor = 0
    for stride in STRIDES:
        for row in range(HEIGHT // stride):
            for column in range(WIDTH // stride):
                v = [float(x) for x in output[0, anchor]]
                anchor += 1
                scores = [v[4] * score for score in v[5:]]
                expected += picked(yolox_box(v[:4], column, row, stride), scores, threshold, every_class)
    found = yolox.plan(None, TARGET).decoder.candidates([output], threshold, every_class=every_class)
    assert_same(found, expected, threshold)


@settings(max_examples=25, deadline=None)
@given(seeds, thresholds, every)
def test_end_to_end_rows_are_taken_as_they_are(seed: int, threshold: float, every_class: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = [[*(rng.random(4) * 64).tolist(), float(rng.random()), int(rng.integers(CLASSES))] for _ in range(20)]
    output = np.array([rows], dtype=np.float32)
    expected: Found = [((x1, y1, x2, y2), score, int(c)) for x1, y1, x2, y2, score, c in rows if score >= threshold]
    decoder = end_to_end.plan(None, TARGET).decoder
    assert_same(decoder.candidates([output], threshold, every_class=every_class), expected, threshold)
    scores, boxes = decoder.raw([output])
    assert scores.shape == (20, CLASSES)
    for position, row in enumerate(rows):
        assert scores[position].tolist() == [np.float32(row[4]) if index == row[5] else 0 for index in range(CLASSES)]
        np.testing.assert_allclose(boxes[position], row[:4], rtol=1e-6)
    assert not decoder.overlapping


@settings(max_examples=25, deadline=None)
@given(seeds, thresholds, every, st.booleans())
def test_detr_queries_are_decoded_as_the_formula_says(
    seed: int, threshold: float, every_class: bool, boxes_first: bool
) -> None:
    (logits,) = random(seed, (1, 30, CLASSES))
    boxes = np.random.default_rng(seed).random((1, 30, 4), dtype=np.float32)
    expected: Found = []
    for query in range(30):
        x, y, width, height = (float(value) for value in boxes[0, query])
        scores = [s(float(value)) for value in logits[0, query]]
        box = around(x * WIDTH, y * HEIGHT, width * WIDTH, height * HEIGHT)
        expected += picked(box, scores, threshold, every_class)
    outputs = [boxes, logits] if boxes_first else [logits, boxes]
    decoder = detr.plan(None, TARGET).decoder
    assert_same(decoder.candidates(outputs, threshold, every_class=every_class), expected, threshold)
    assert not decoder.overlapping


@settings(max_examples=25, deadline=None)
@given(seeds, thresholds, every, st.booleans())
def test_nanodet_distributions_are_decoded_as_the_formula_says(
    seed: int, threshold: float, every_class: bool, by_level: bool
) -> None:
    bins = 8
    rng = np.random.default_rng(seed)
    scores = rng.random((1, CELLS, CLASSES), dtype=np.float32)
    (sides,) = random(seed, (1, CELLS, 4 * bins))
    offset = 0.5 if by_level else 0.0  # older models have the point of a cell in its middle
    expected: Found = []
    anchor = 0
    for stride in STRIDES:
        for row in range(HEIGHT // stride):
            for column in range(WIDTH // stride):
                distances = []
                for side in range(4):
                    weights = [math.exp(float(x)) for x in sides[0, anchor, side * bins : (side + 1) * bins]]
                    distances.append(sum(i * weight for i, weight in enumerate(weights)) / sum(weights) * stride)
                x, y = (column + offset) * stride, (row + offset) * stride
                box = (x - distances[0], y - distances[1], x + distances[2], y + distances[3])
                expected += picked(box, [float(value) for value in scores[0, anchor]], threshold, every_class)
                anchor += 1
    fine = (HEIGHT // 8) * (WIDTH // 8)
    joined = [np.concatenate([scores, sides], axis=2)]
    levels = [scores[:, :fine], scores[:, fine:], sides[:, :fine], sides[:, fine:]]
    decoder = nanodet.plan(None, TARGET).decoder
    found = decoder.candidates(levels if by_level else joined, threshold, every_class=every_class)
    assert_same(found, expected, threshold)


@pytest.mark.parametrize(
    ("family", "model", "tensors"),
    [("yolov5", yolov5_detector(), 2), ("yolox", networks.yolox_network(), 6)],
    ids=["yolov5", "yolox"],
)
def test_a_graph_cut_before_its_tail_gives_what_the_whole_graph_gives(
    family: str, model: onnx.ModelProto, tensors: int
) -> None:
    graph = parse_model(model.SerializeToString(), where="tiny")
    plan = planner_of(family, where="tiny")(graph, SQUARE)
    assert len(plan.tensors) == tensors
    image = networks.image(seed=3)
    cut = networks.run(cut_at(graph, plan.tensors), image)
    scores, boxes = plan.decoder.raw(cut)
    exported = planner_of(family, where="tiny")(None, SQUARE).decoder
    expected_scores, expected_boxes = exported.raw(networks.run(model, image))
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    np.testing.assert_allclose(boxes, expected_boxes, atol=1e-2)
    found, expected = plan.decoder.candidates(cut, 0.3), exported.candidates(networks.run(model, image), 0.3)
    assert len(found.scores) == len(expected.scores) > 0


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("model", "count"), [("yolov8n", 6), ("yolo11n", 6), ("yolov5n", 3), ("yolox_nano", 9), ("yolov8n_dynamic", 6)]
)
def test_real_models_give_cut_what_they_give_whole(shared_data: Path, model: str, count: int) -> None:
    file = shared_data / "models" / f"{model}.onnx"
    detector = Detector(file, precision="fp32", threads=1)
    spec, (height, width) = detector.spec, detector.input_size
    target = DecodeTarget(height, width, len(spec.classes), where=model)
    exported = planner_of(spec.family, where=model)(None, target).decoder
    graph = load_model(file)
    if spec.input.dynamic:
        graph = fix_input_size(graph, height, width)
    assert len(planner_of(spec.family, where=model)(graph, target).tensors) == count
    whole = Session(file, threads=1)
    preprocess = Preprocessor(spec.preprocessing, height, width, stride=detector.stride)
    photos = [shared_data / "images" / name for name in ("bus.jpg", "zidane.jpg")]
    photos += sorted((shared_data / "coco/val").glob("*.jpg"))[:4]
    for photo in photos:
        frame = read_image(photo)
        scores, boxes = detector.raw(frame)
        tensor, _ = preprocess(frame)
        expected_scores, expected_boxes = exported.at(*tensor.shape[2:]).raw(whole.run(tensor))
        assert np.abs(scores - expected_scores).max() < 0.002
        assert np.abs(boxes - expected_boxes).max() < 0.5


def test_anchor_shapes_are_read_from_the_graph() -> None:
    graph = parse_model(yolov5_detector().SerializeToString(), where="tiny")
    decoder = yolov5.plan(graph, SQUARE).decoder
    assert isinstance(decoder, yolov5.HeadDecoder)
    zeros = [np.zeros((1, 24, side, side), np.float32) for side in (8, 4)]
    _, boxes = decoder.raw(zeros)
    sizes = boxes[:, 2:] - boxes[:, :2]
    assert {tuple(size) for size in sizes.round(3).tolist()} == {shape for level in ANCHORS for shape in level}


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("yolov5", networks.yolov5_network()),  # no grid in its tail
        ("yolov5", networks.yolox_network(decoded=True)),
        ("yolox", networks.yolov8_network()),
        ("yolov5", networks.yolov8_network()),
        ("yolox", networks.two_output_network()),
    ],
)
def test_a_graph_whose_tail_does_something_else_runs_whole(family: str, model: onnx.ModelProto) -> None:
    graph = parse_model(model.SerializeToString(), where="tiny")
    assert planner_of(family, where="tiny")(graph, SQUARE).tensors == ()


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("end_to_end", networks.end_to_end_network()),
        ("detr", networks.two_output_network()),
        ("nanodet", networks.nanodet_network()),
        ("nanodet", networks.nanodet_network(by_level=True)),
    ],
)
def test_graphs_that_are_never_cut_are_decoded_whole(family: str, model: onnx.ModelProto) -> None:
    plan = planner_of(family, where="tiny")(parse_model(model.SerializeToString(), where="tiny"), SQUARE)
    assert plan.tensors == ()
    outputs = networks.run(model, networks.image())
    scores, boxes = plan.decoder.raw(outputs)
    assert scores.shape == (len(boxes), CLASSES)
    assert len(plan.decoder.candidates(outputs, 0.0).scores) == len(boxes)


@pytest.mark.parametrize(
    ("family", "shape", "expected"),
    [
        ("yolov8", (1, 9, 84), "[1, 7, anchors]"),
        ("yolov5", (1, 84, 9), "[1, anchors, 8]"),
        ("yolox", (1, 7, 84), "[1, anchors, 8]"),
        ("end_to_end", (1, 300, 7), "[1, boxes, 6]"),
        ("detr", (1, 300, 5), "[1, queries, 3]"),
        ("nanodet", (1, 300, 10), "[1, cells, 3 + 4 * (reg_max + 1)]"),
    ],
)
def test_an_output_of_another_shape_is_refused_with_what_was_seen(
    family: str, shape: tuple[int, ...], expected: str
) -> None:
    decoder = planner_of(family, where="tiny")(None, SQUARE).decoder
    with pytest.raises(UnsupportedModelError) as caught:
        decoder.raw([np.zeros(shape, np.float32)])
    assert str(caught.value) == (
        f"tiny: got an output of shape {list(shape)}; expected {expected}, as the family {family} has"
    )
    assert caught.value.hint == (
        "Leave `family` out of the catalog entry, so that it is found from the model, and check the labels."
    )


def test_a_number_of_anchors_that_fits_no_strides_is_refused() -> None:
    decoder = planner_of("yolox", where="tiny")(None, SQUARE).decoder
    with pytest.raises(UnsupportedModelError) as caught:
        decoder.raw([np.zeros((1, 81, 8), np.float32)])
    assert str(caught.value) == (
        "tiny: got 81 anchors for an input of 64x64; expected 84 (strides 8, 16 and 32), or those of neighbouring "
        "strides, as the family yolox has"
    )


def test_nanodet_without_class_names_is_refused() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        nanodet.plan(None, DecodeTarget(64, 64, 0, where="tiny"))
    assert str(caught.value) == (
        "tiny: got no class names; expected them, because they tell how the outputs of the family nanodet are divided"
    )


def test_corners_of_no_boxes_are_no_boxes() -> None:
    assert corners(np.empty((0, 4), np.float32)).shape == (0, 4)
