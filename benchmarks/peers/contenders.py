"""The contenders: each takes a 1080p BGR frame and gives detections in its pixels, with the times of its stages."""

import importlib
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
SIZE = 640
SCORE, IOU, MOST = 0.25, 0.45, 300
CALIBRATION_PHOTOS = 128


@dataclass(frozen=True, slots=True)
class Lap:
    """One frame: milliseconds of its stages, and how many objects were found."""

    pre_ms: float
    session_ms: float
    post_ms: float
    found: int

    @property
    def total_ms(self) -> float:
        """End to end."""
        return self.pre_ms + self.session_ms + self.post_ms


@dataclass(frozen=True, slots=True)
class Setting:
    """What all contenders share.

    Attributes:
        model: the FP32 ONNX file.
        work: folder for what a contender builds.
        photos: calibration photos, for NNCF.
    """

    model: Path
    work: Path
    photos: Path
    threads: int


Run = Callable[[Frame], Lap]


def mecha_fp32(setting: Setting) -> Run:
    """Mecha on the FP32 file."""
    return _mecha(setting.model, setting, "FP32")


def mecha_int8(setting: Setting) -> Run:
    """Mecha on the INT8 file it builds itself: 32 built-in scenes, no photos."""
    from mecha.detect.locate import inspected_spec
    from mecha.graph.inspect import inspect_model
    from mecha.quantize.frames import built_in_scenes
    from mecha.quantize.static import build_static

    target = setting.work / "mecha-int8.onnx"
    if not target.exists():
        spec = inspected_spec(setting.model, inspect_model(setting.model))
        build_static(setting.model, target, built_in_scenes(32, seed=0, size=(SIZE, SIZE)), spec)
    return _mecha(target, setting, "INT8")


def mecha_fp32_openvino(setting: Setting) -> Run:
    """Mecha on the FP32 file with OpenVINO as its runtime, as `mecha models tune` chooses where it is faster."""
    return _mecha(setting.model, setting, "FP32", provider="OpenVINO")


def _mecha(file: Path, setting: Setting, precision: Any, provider: str = "CPUExecutionProvider") -> Run:  # noqa: ANN401 - mecha's Precision
    from mecha.detect.detector import Detector
    from mecha.detect.locate import inspected_spec
    from mecha.graph.inspect import inspect_model

    spec = inspected_spec(setting.model, inspect_model(setting.model))
    detector = Detector.from_file(
        file,
        spec,
        precision=precision,
        score_threshold=SCORE,
        iou_threshold=IOU,
        max_detections=MOST,
        threads=setting.threads,
        provider=provider,
    )
    if detector.notice:
        raise RuntimeError(detector.notice)

    def run(frame: Frame) -> Lap:
        result = detector.run(frame)
        times = result.times
        return Lap(times.pre_ms, times.session_ms, times.post_ms, len(result.detections))

    return run


def onnxruntime_numpy(setting: Setting) -> Run:
    """Plain onnxruntime on the file as exported, with numpy around it: what a tutorial shows."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    session = onnxruntime.InferenceSession(str(setting.model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return _numpy_around(lambda tensor: session.run(None, {name: tensor})[0])


def openvino_fp32(setting: Setting) -> Run:
    """OpenVINO on the FP32 file as it comes: it computes in bfloat16 where the CPU can; numpy around it."""
    return _openvino(setting.model, setting)


def openvino_nncf_int8(setting: Setting) -> Run:
    """OpenVINO on what NNCF makes of the FP32 file with 128 photos and its preset MIXED; numpy around it."""
    target = setting.work / "nncf-int8.xml"
    if not target.exists():
        import nncf
        import openvino

        photos = sorted(setting.photos.glob("*.jpg"))[:CALIBRATION_PHOTOS]
        dataset = nncf.Dataset([_tensor(np.asarray(cv2.imread(str(photo)), np.uint8))[0] for photo in photos])
        model = openvino.Core().read_model(setting.model)
        preset = nncf.QuantizationPreset.MIXED
        quantized = nncf.quantize(model, dataset, preset=preset, subset_size=CALIBRATION_PHOTOS)
        openvino.save_model(quantized, target)
    return _openvino(target, setting)


def _openvino(file: Path, setting: Setting) -> Run:
    import openvino

    config = {"INFERENCE_NUM_THREADS": setting.threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(file), "CPU", config)
    request = compiled.create_infer_request()

    def infer(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = request.infer([tensor])[compiled.output(0)]
        return result

    return _numpy_around(infer)


def _numpy_around(infer: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Run:
    def run(frame: Frame) -> Lap:
        start = time.perf_counter()
        tensor, scale, pad = _tensor(frame)
        prepared = time.perf_counter()
        output = infer(tensor)
        inferred = time.perf_counter()
        found = _decoded(output[0], scale, pad)
        done = time.perf_counter()
        return Lap((prepared - start) * 1e3, (inferred - prepared) * 1e3, (done - inferred) * 1e3, found)

    return run


def _tensor(frame: Frame) -> tuple[NDArray[np.float32], float, tuple[int, int]]:
    height, width = frame.shape[:2]
    scale = min(SIZE / height, SIZE / width)
    new_width, new_height = round(width * scale), round(height * scale)
    left, top = (SIZE - new_width) // 2, (SIZE - new_height) // 2
    canvas = np.full((SIZE, SIZE, 3), 114, dtype=np.uint8)
    canvas[top : top + new_height, left : left + new_width] = cv2.resize(frame, (new_width, new_height))
    tensor = canvas[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    return np.ascontiguousarray(tensor), scale, (left, top)


def _decoded(output: NDArray[np.float32], scale: float, pad: tuple[int, int]) -> int:
    scores = output[4:]
    best = scores.argmax(axis=0)
    top = scores.max(axis=0)
    kept = top > SCORE
    centres, sizes = output[:2, kept].T, output[2:4, kept].T
    corners = (centres - sizes / 2 - np.array(pad)) / scale
    boxes = np.concatenate([corners, sizes / scale], axis=1)
    # OpenCV's NMS per class, as its users call it.
    indices = cv2.dnn.NMSBoxesBatched(boxes.tolist(), top[kept].tolist(), best[kept].tolist(), SCORE, IOU)
    return min(len(indices), MOST)


def ultralytics_predict(setting: Setting) -> Run:
    """Ultralytics' predict on the FP32 ONNX file, held to the same number of threads."""
    _hold_threads(setting.threads)
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(setting.threads)
    _lend_nms()
    model = YOLO(str(setting.model), task="detect")

    def run(frame: Frame) -> Lap:
        start = time.perf_counter()
        result = model.predict(frame, imgsz=SIZE, conf=SCORE, iou=IOU, max_det=MOST, verbose=False)[0]
        total = (time.perf_counter() - start) * 1e3
        speed = result.speed
        # What its own three stages leave of the whole call belongs to neither: it is counted as post-processing.
        return Lap(
            speed["preprocess"], speed["inference"], total - speed["preprocess"] - speed["inference"], len(result.boxes)
        )

    return run


def _hold_threads(threads: int) -> None:
    """Make every onnxruntime session of this process use so many threads: Ultralytics leaves it to onnxruntime."""
    import onnxruntime

    class Held(onnxruntime.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self, model: Any, sess_options: Any = None, **arguments: Any) -> None:  # noqa: ANN401 - untyped
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            super().__init__(model, options, **arguments)

    onnxruntime.InferenceSession = Held


def _lend_nms() -> None:
    """Give Ultralytics its own NMS in torchvision's place where torchvision's compiled part cannot be loaded.

    The package index has no CPU build of torchvision. Ultralytics insists on importing it, and brings an NMS in PyTorch
    for those who have none.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        from ultralytics.utils.nms import TorchNMS

        lent = types.ModuleType("torchvision")
        lent.ops = types.SimpleNamespace(nms=TorchNMS.nms)  # type: ignore[attr-defined]  # a module of our own
        sys.modules["torchvision"] = lent


CONTENDERS: dict[str, Callable[[Setting], Run]] = {
    "mecha INT8": mecha_int8,
    "mecha FP32": mecha_fp32,
    "mecha FP32, mecha[openvino]": mecha_fp32_openvino,
    "onnxruntime FP32, numpy": onnxruntime_numpy,
    "Ultralytics FP32 ONNX": ultralytics_predict,
    "OpenVINO FP32, numpy": openvino_fp32,
    "OpenVINO NNCF INT8, numpy": openvino_nncf_int8,
}
