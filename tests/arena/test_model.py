"""The model that ships in the package."""

import ast
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from mecha.arena.scene import CLASS_NAMES, ArenaCamera, Scene, training_scene

MODEL = Path(str(files("mecha.arena") / "arena-n.onnx"))


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def detected(session: ort.InferenceSession, frame_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Rows (M, 6) x0, y0, x1, y1, score, class of all cells that score 0.4; several may show the same object."""
    pixels = frame_bgr[None, ..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255
    output = session.run(["output0"], {"images": pixels})[0][0]
    middle, half = output[:2].T, output[2:4].T / 2
    scores = output[4:].T
    rows = np.column_stack([middle - half, middle + half, scores.max(1), scores.argmax(1)]).astype(np.float32)
    return rows[rows[:, 4] >= 0.4]


def found(scene: Scene, rows: NDArray[np.float32], scale: float = 1, top: float = 0) -> list[bool]:
    """For each true object, whether a row of its class overlaps it by an IoU of 0.5."""
    hits = []
    for box, class_id in zip(scene.boxes_xyxy * scale + np.array([0, top, 0, top]), scene.class_ids, strict=True):
        same = rows[rows[:, 5] == class_id]
        low, high = np.maximum(same[:, :2], box[:2]), np.minimum(same[:, 2:4], box[2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        areas = np.prod(same[:, 2:4] - same[:, :2], axis=1) + np.prod(box[2:] - box[:2])
        hits.append(bool((shared / (areas - shared) >= 0.5).any()))
    return hits


def test_the_model_is_at_most_one_and_a_half_megabytes() -> None:
    assert MODEL.stat().st_size <= 1_500_000


def test_the_model_has_the_signature_of_a_yolov8_export(session: ort.InferenceSession) -> None:
    assert [(value.name, value.type, value.shape) for value in session.get_inputs()] == [
        ("images", "tensor(float)", [1, 3, 320, 320])
    ]
    assert [(value.name, value.type, value.shape) for value in session.get_outputs()] == [
        ("output0", "tensor(float)", [1, 4 + len(CLASS_NAMES), 40**2 + 20**2 + 10**2])
    ]


def test_the_model_says_in_its_metadata_what_it_is(session: ort.InferenceSession) -> None:
    metadata = session.get_modelmeta().custom_metadata_map
    assert ast.literal_eval(metadata["names"]) == dict(enumerate(CLASS_NAMES))
    assert {key: metadata[key] for key in ("imgsz", "stride", "task", "author", "license")} == {
        "imgsz": "[320, 320]",
        "stride": "32",
        "task": "detect",
        "author": "mecha",
        "license": "Apache-2.0",
    }


def test_the_model_has_no_batch_normalisation_left_and_ends_in_a_yolov8_tail() -> None:
    model = onnx.load(MODEL)
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert {opset.domain: opset.version >= 13 for opset in model.opset_import} == {"": True}
    bins = [
        weight for weight in map(onnx.numpy_helper.to_array, model.graph.initializer) if weight.shape == (1, 16, 1, 1)
    ]
    assert [weight.ravel().tolist() for weight in bins] == [list(range(16))]
    assert kinds.count("Softmax") == 1
    assert kinds[-1] == "Concat"


def test_every_convolution_has_a_width_that_suits_int8_kernels() -> None:
    weights = [onnx.numpy_helper.to_array(weight) for weight in onnx.load(MODEL).graph.initializer]
    outputs = [weight.shape[0] for weight in weights if weight.ndim == 4 and weight.shape != (1, 16, 1, 1)]
    assert {width for width in outputs if width % 16} == {len(CLASS_NAMES)}


def test_the_model_finds_the_objects_of_unseen_scenes(session: ort.InferenceSession) -> None:
    scenes = [training_scene(seed) for seed in range(20)]
    hits = [hit for scene in scenes for hit in found(scene, detected(session, scene.frame_bgr))]
    assert sum(hits) / len(hits) > 0.85


def test_the_model_finds_the_objects_that_the_live_camera_sees(session: ort.InferenceSession) -> None:
    camera = ArenaCamera(0)
    hits = []
    for index in range(0, 900, 60):
        scene = camera.scene(index)
        frame = np.full((320, 320, 3), 114, np.uint8)
        frame[40:280] = cv2.resize(scene.frame_bgr, (320, 240), interpolation=cv2.INTER_LINEAR)
        hits += found(scene, detected(session, frame), scale=0.5, top=40)
    assert sum(hits) / len(hits) > 0.85


def test_the_model_finds_little_where_nothing_is(session: ort.InferenceSession) -> None:
    assert len(detected(session, np.full((320, 320, 3), 114, np.uint8))) == 0
