"""What is measured of finished files: accuracy, agreement with FP32, and latency in turns.

mecha's files run as mecha runs them. All others run whole, as their makers' documentation runs them, and the outputs
are decoded and suppressed by the same code; `benchmarks/accuracy.py` says what the difference is worth.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from benchmarks.quantization.builders import described
from numpy.typing import NDArray

from mecha.detect.decode.candidates import DecodeTarget
from mecha.detect.decode.registry import planner_of
from mecha.detect.detections import Detections, StageTimes
from mecha.detect.detector import Detector
from mecha.detect.nms import nms
from mecha.detect.preprocess import Preprocessor
from mecha.gate.agreement import matches
from mecha.gate.coco import EVAL_IOU_THRESHOLD, EVAL_MAX_DETECTIONS, EVAL_SCORE_THRESHOLD, evaluate_images
from mecha.gate.latency import Effort, Run, detector_run, exported_run, measure, session_ms

if TYPE_CHECKING:
    from mecha.store.spec import ModelSpec

FP32 = "FP32"
SCORES = (0.25, 0.5)
# Frames of the video between two that are compared.
STEP = 5

Frame = NDArray[np.uint8]
Find = Callable[[Frame], Detections]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be measured.

    Attributes:
        files: the INT8 files of one model by method.
        limit: only the first so many annotated photos.
        video: None leaves the agreement out.
        rounds: of the latency; 0 leaves it out.
    """

    model: Path
    files: dict[str, Path]
    instances: Path
    images: Path
    limit: int | None
    video: Path | None
    rounds: int
    threads: int


def figures(question: Question) -> dict[str, dict[str, Any]]:
    """Return the figures of FP32 and of every file, by method."""
    spec = described(question.model)
    found: dict[str, dict[str, Any]] = {name: {} for name in (FP32, *question.files)}
    for name in found:
        print(f"{question.model.stem}: accuracy of {name}", file=sys.stderr, flush=True)
        find = _finder(name, question, spec, score=EVAL_SCORE_THRESHOLD, iou=EVAL_IOU_THRESHOLD, every_class=True)
        result = evaluate_images(find, question.instances, question.images, classes=spec.classes, most=question.limit)
        found[name] |= {"map": result.map, "map50": result.map50}
    if question.video is not None:
        for name, scores in _agreement(question, question.video, spec).items():
            found[name]["f1"] = scores
    if question.rounds:
        for name, milliseconds in _latency(question, spec).items():
            found[name]["ms"] = milliseconds
    return found


def _finder(
    name: str, question: Question, spec: "ModelSpec", *, score: float, iou: float, every_class: bool = False
) -> Find:
    file = question.model if name == FP32 else question.files[name]
    if runs_in_mecha(name):
        return Detector.from_file(
            file,
            spec,
            precision="FP32" if name == FP32 else "INT8",
            score_threshold=score,
            iou_threshold=iou,
            max_detections=EVAL_MAX_DETECTIONS,
            threads=question.threads,
            every_class=every_class,
        )
    size = spec.input.height, spec.input.width
    preprocess = Preprocessor(spec.preprocessing, *size)
    infer = _whole(file, question.threads)
    decoder = planner_of(spec.family, where=name)(None, DecodeTarget(*size, len(spec.classes), where=name)).decoder

    def find(frame: Frame) -> Detections:
        tensor, geometry = preprocess(frame)
        seen = decoder.candidates(infer(tensor), score, every_class=every_class)
        kept = nms(seen.boxes_xyxy, seen.scores, seen.class_ids, iou_threshold=iou, max_detections=EVAL_MAX_DETECTIONS)
        return Detections(
            geometry.to_frame(seen.boxes_xyxy[kept]), seen.scores[kept], seen.class_ids[kept], spec.classes
        )

    return find


def runs_in_mecha(name: str) -> bool:
    """Tell whether a file is run as mecha runs it."""
    return name == FP32 or name.startswith("mecha")


def _whole(file: Path, threads: int) -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return a run of a file whole: an OpenVINO model in OpenVINO, an ONNX file in plain onnxruntime."""
    if file.suffix == ".xml":
        import openvino

        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(str(file), "CPU", hints)
        request = compiled.create_infer_request()
        return lambda tensor: list(request.infer([tensor]).values())
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = session.run(None, {name: tensor})
        return outputs

    return run


def _agreement(question: Question, video: Path, spec: "ModelSpec") -> dict[str, dict[str, float]]:
    """Return F1 of each file's detections against FP32's, by score, over every STEP-th frame of the video."""
    finders = {name: _finder(name, question, spec, score=min(SCORES), iou=0.45) for name in (FP32, *question.files)}
    counts = {name: {score: [0, 0] for score in SCORES} for name in question.files}
    print(f"{question.model.stem}: agreement on {video.name}", file=sys.stderr, flush=True)
    for frame in every_step(video):
        found = {name: find(frame) for name, find in finders.items()}
        for name, by_score in counts.items():
            for score, count in by_score.items():
                ours, theirs = (one[one.scores >= score] for one in (found[FP32], found[name]))
                count[0] += 2 * matches(ours, theirs)
                count[1] += len(ours) + len(theirs)
    return {
        name: {f"{score:g}": both / max(all_of, 1) for score, (both, all_of) in by_score.items()}
        for name, by_score in counts.items()
    }


def every_step(video: Path) -> Iterator[Frame]:
    """Give every STEP-th frame of a video."""
    capture = cv2.VideoCapture(str(video))
    number = 0
    while capture.grab():
        if number % STEP == 0:
            yield np.asarray(capture.retrieve()[1], dtype=np.uint8)
        number += 1


def _latency(question: Question, spec: "ModelSpec") -> dict[str, float]:
    """Return the median milliseconds of each file's session, in turns; of FP32 run whole in plain onnxruntime."""
    from mecha.arena.scene import calibration_scene

    print(f"{question.model.stem}: latency in turns", file=sys.stderr, flush=True)
    frame = calibration_scene(0, 0, 1920, 1080)
    fp32 = Detector.from_file(question.model, spec, precision="FP32", threads=question.threads)
    runs: dict[str, Run] = {FP32: exported_run(question.model, spec, frame, fp32, threads=question.threads)}
    tensor, _ = Preprocessor(spec.preprocessing, spec.input.height, spec.input.width)(frame)
    for name, file in question.files.items():
        if runs_in_mecha(name):
            runs[name] = detector_run(Detector.from_file(file, spec, precision="INT8", threads=question.threads), frame)
        else:
            runs[name] = _timed(_whole(file, question.threads), tensor)
    effort = Effort(least=question.rounds, most=question.rounds, time_limit_s=float("inf"))
    times = measure(list(runs.values()), effort=effort, settled=lambda _: True)
    return {name: median(session_ms(laps)) for name, laps in zip(runs, times, strict=True)}


def _timed(infer: Callable[[NDArray[np.float32]], Any], tensor: NDArray[np.float32]) -> Run:
    def run() -> StageTimes:
        started = perf_counter()
        infer(tensor)
        return StageTimes(pre_ms=0.0, session_ms=(perf_counter() - started) * 1e3, post_ms=0.0)

    return run
