from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecha.detect.decode.candidates import DecodeTarget, logit, sigmoid
from mecha.detect.decode.registry import DECODABLE, planner_of
from mecha.detect.decode.yolov8 import ExportedDecoder, HeadDecoder
from mecha.detect.detector import Detector
from mecha.detect.images import read_image
from mecha.detect.preprocess import Preprocessor
from mecha.errors import UnsupportedModelError
from mecha.graph.reading import parse_model
from tests.detect.blob_detector import REG_MAX, blob_detector

SIZE = 64
TARGET = DecodeTarget(SIZE, SIZE, 0, where="blobs")


def head_outputs(seed: int, *, classes: int = 3) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shapes = [(1, 4 * REG_MAX, side, side) for side in (8, 4)] + [(1, classes, side, side) for side in (8, 4)]
    return [rng.normal(0, 3, shape).astype(np.float32) for shape in shapes]


def reference_anchor(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], row: int, column: int
) -> tuple[list[float], list[float]]:
    """The box and class scores of one anchor, straight from the formulae."""
    stride = SIZE / boxes.shape[2]
    distances = []
    for side in range(4):
        logits = boxes[0, side * REG_MAX : (side + 1) * REG_MAX, row, column].astype(np.float64)
        weights = np.exp(logits) / np.exp(logits).sum()
        distances.append(float((weights * np.arange(REG_MAX)).sum()))
    x, y = column + 0.5, row + 0.5
    left, top, right, bottom = distances
    box = [(x - left) * stride, (y - top) * stride, (x + right) * stride, (y + bottom) * stride]
    return box, [1 / (1 + np.exp(-float(value))) for value in scores[0, :, row, column]]


def test_the_head_is_decoded_as_the_formulae_say() -> None:
    outputs = head_outputs(1)
    scores, boxes = HeadDecoder(2, REG_MAX, SIZE).raw(outputs)
    anchor = 0
    for level in range(2):
        side = outputs[level].shape[2]
        for row in range(side):
            for column in range(side):
                box, classes = reference_anchor(outputs[level], outputs[level + 2], row, column)
                np.testing.assert_allclose(boxes[anchor], box, atol=1e-3)
                np.testing.assert_allclose(scores[anchor], classes, atol=1e-6)
                anchor += 1
    assert len(scores) == len(boxes) == anchor == 80


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 0.999))
def test_candidates_are_the_anchors_whose_best_class_passes(seed: int, threshold: float) -> None:
    outputs = head_outputs(seed)
    decoder = HeadDecoder(2, REG_MAX, SIZE)
    scores, boxes = decoder.raw(outputs)
    found = decoder.candidates(outputs, threshold)
    best = scores.max(axis=1)
    clear = np.abs(best - threshold) > 1e-6  # at the threshold itself the two ways may round apart
    assert (found.scores >= threshold - 1e-6).all()
    passing = np.flatnonzero((best >= threshold) & clear)
    assert len(passing) <= len(found.scores) <= np.count_nonzero((best >= threshold) | ~clear)
    for box, score, class_id in zip(found.boxes_xyxy, found.scores, found.class_ids, strict=True):
        anchor = np.flatnonzero(np.isclose(boxes, box, atol=1e-4).all(axis=1))
        assert any(scores[index].argmax() == class_id and abs(best[index] - score) < 1e-6 for index in anchor)


def test_no_anchor_passes_gives_no_candidates() -> None:
    found = HeadDecoder(2, REG_MAX, SIZE).candidates(head_outputs(1), 1.0)
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == found.class_ids.shape == (0,)


def test_every_anchor_passes_a_threshold_of_zero() -> None:
    assert len(HeadDecoder(2, REG_MAX, SIZE).candidates(head_outputs(1), 0.0).scores) == 80


def test_large_logits_do_not_overflow() -> None:
    values = np.array([-1e4, -90, 0, 90, 1e4], dtype=np.float32)
    np.testing.assert_allclose(sigmoid(values), [0, 0, 0.5, 1, 1], atol=1e-30)
    outputs = [output * np.float32(1e4) for output in head_outputs(1)]
    assert np.isfinite(HeadDecoder(2, REG_MAX, SIZE).raw(outputs)[1]).all()


@pytest.mark.parametrize("score", [0.001, 0.25, 0.5, 0.999])
def test_logit_undoes_sigmoid(score: float) -> None:
    np.testing.assert_allclose(sigmoid(np.array([logit(score)], dtype=np.float32)), score, rtol=1e-5)


@pytest.mark.parametrize("cut", [True, False])
def test_the_cut_graph_gives_what_the_whole_graph_gives(cut: bool) -> None:
    # What the file's own decode tail computes is the reference for what is computed after the cut.
    data = blob_detector(SIZE)
    frame = np.random.default_rng(5).random((1, 3, SIZE, SIZE), dtype=np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    whole = session.run(None, {"images": frame})
    scores, boxes = ExportedDecoder(TARGET).raw(whole)
    model = parse_model(data, where="blobs")
    plan = planner_of("yolov8", where="blobs")(model if cut else None, TARGET)
    if cut:
        assert len(plan.tensors) == 4
        with_heads = onnxruntime.InferenceSession(_with_outputs(data, plan.tensors), providers=["CPUExecutionProvider"])
        whole = with_heads.run(list(plan.tensors), {"images": frame})
    found_scores, found_boxes = plan.decoder.raw(whole)
    np.testing.assert_allclose(found_scores, scores, atol=1e-6)
    np.testing.assert_allclose(found_boxes, boxes, atol=1e-3)
    assert plan.decoder.candidates(whole, 0.1).scores.shape == (np.count_nonzero(scores.max(axis=1) >= 0.1),)


def _with_outputs(data: bytes, tensors: tuple[str, ...]) -> bytes:
    from mecha.graph.cut import cut_at

    return bytes(cut_at(parse_model(data, where="blobs"), tensors).SerializeToString())


def test_a_family_without_a_decoder_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        planner_of("segmenter", where="pets")
    assert str(caught.value) == (
        f'pets: got family "segmenter"; expected one that mecha can decode: {", ".join(DECODABLE)}'
    )
    assert caught.value.hint == "The model itself is whole: other programs can run model.onnx."
    with pytest.raises(UnsupportedModelError, match=r"^x: got no detector family; expected"):
        planner_of(None, where="x")


@pytest.mark.shared_data
@pytest.mark.parametrize("model", ["yolov8n.onnx", "yolov8n_dynamic.onnx"])
def test_boxes_equal_a_full_decode_of_the_whole_graph(shared_data: Path, model: str) -> None:
    image = read_image(shared_data / "images" / "bus.jpg")
    detector = Detector(shared_data / "models" / model, precision="fp32", threads=1)
    assert detector.cut
    scores, boxes = detector.raw(image)
    tensor, _ = Preprocessor("yolo", 640, 640, stride=detector.stride)(image)
    whole = onnxruntime.InferenceSession(shared_data / "models" / model, providers=["CPUExecutionProvider"])
    output = whole.run(None, {"images": tensor})[0][0]
    assert np.abs(scores - output[4:].T).max() < 0.002
    x, y, width, height = output[:4]
    expected = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    assert np.abs(boxes - expected).max() < 0.5
