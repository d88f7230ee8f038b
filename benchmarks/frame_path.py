"""Where the time of a frame goes, and what each trick of the frame path gains.

    python benchmarks/frame_path.py MODEL.onnx [MODEL-int8.onnx] [--threads 1] [--rounds 60]

Every line is measured in turns with all the others, so that whatever slows the machine slows them all; figures are
medians of milliseconds, from a 1080p frame to boxes in its pixels. "cpu" is what the calling thread computed for, which
with one thread is the whole frame, and stays true where other processes take the cores.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from mecha.detect.decode.candidates import Decoder, DecodeTarget
from mecha.detect.decode.registry import planner_of
from mecha.detect.detections import StageTimes
from mecha.detect.detector import Detector
from mecha.detect.locate import inspected_spec
from mecha.detect.nms import nms
from mecha.detect.pixels import take_pixels
from mecha.detect.preprocess import Letterbox, Preprocessor, pixel_scale
from mecha.detect.session import Session
from mecha.graph.cut import cut_at
from mecha.graph.inspect import inspect_model
from mecha.graph.prepare import fix_input_size, load_model
from mecha.graph.split_free import split_free
from mecha.store.spec import ModelSpec

FRAME = (1920, 1080)
WARM_UP = 5


@dataclass
class Line:
    """One row of the table: what is run, and the times it took."""

    name: str
    run: Callable[[], StageTimes]
    times: list[StageTimes] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def main() -> None:
    """Measure the files given and print one table each."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="+", type=Path)
    arguments.add_argument("--frame", type=Path, help="a picture, scaled to 1080p; a grey scene with noise by default")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=60)
    options = arguments.parse_args()
    cv2.setNumThreads(options.threads)
    frame = frame_of(options.frame)
    for model in options.models:
        lines = lines_for(model, frame, options.threads)
        for number in range(WARM_UP + options.rounds):
            for line in lines:
                began = thread_time()
                times = line.run()
                if number >= WARM_UP:
                    line.times.append(times)
                    line.cpu_ms.append((thread_time() - began) * 1e3)
        show(model, lines)


def frame_of(picture: Path | None) -> NDArray[np.uint8]:
    """Return the 1080p frame that is measured on."""
    if picture is None:
        return np.random.default_rng(0).integers(90, 140, (FRAME[1], FRAME[0], 3), dtype=np.uint8)
    from mecha.detect.images import read_image

    return np.asarray(cv2.resize(read_image(picture), FRAME), dtype=np.uint8)


def lines_for(model: Path, frame: NDArray[np.uint8], threads: int) -> list[Line]:
    """Return what is compared: mecha, mecha without each trick, and the file run whole."""
    spec = inspected_spec(model, inspect_model(model))
    detector = Detector.from_file(model, spec, precision="FP32", threads=threads)
    height, width = detector.input_size
    target = DecodeTarget(height, width, len(spec.classes), where=spec.name)
    planner = planner_of(spec.family, where=spec.name)
    graph = load_model(model)
    if spec.input.dynamic:
        graph = fix_input_size(graph, height, width)
    plan = planner(graph, target)
    cut = cut_at(graph, plan.tensors) if plan.tensors else graph
    values = Preprocessor(spec.preprocessing, height, width)
    cut_session = Session(cut.SerializeToString(), threads=threads)
    whole_session = Session(graph.SerializeToString(), threads=threads)
    whole = planner(None, target).decoder

    def fresh_values(frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Letterbox]:
        return Preprocessor(spec.preprocessing, height, width)(frame)

    lines = [Line("mecha", lambda: detector.run(frame).times)]
    if detector.stride is not None:
        square = Detector.from_file(model, spec, precision="FP32", threads=threads, square=True)
        lines.append(Line("... padded to the square", lambda: square.run(frame).times))
    return [
        *lines,
        *lines_of_rewrites(cut, spec, (height, width), plan.decoder, frame, threads),
        Line("... and values instead of pixels", staged(values, cut_session, plan.decoder, frame)),
        Line("... and new buffers each frame", staged(fresh_values, cut_session, plan.decoder, frame)),
        Line("... and the file run whole", staged(fresh_values, whole_session, whole, frame)),
    ]


def lines_of_rewrites(
    cut: ModelProto,
    spec: ModelSpec,
    size: tuple[int, int],
    decoder: Decoder,
    frame: NDArray[np.uint8],
    threads: int,
) -> list[Line]:
    """Return the lines of a float graph without its rewrites; none for a quantized one, which has none."""
    scale = pixel_scale(spec.preprocessing)
    split = split_free(cut)
    if split is cut or scale is None:
        return []
    lines = []
    for name, graph in (("... one row at a time", split), ("... and maps split and joined", cut)):
        taking = ModelProto()
        taking.CopyFrom(graph)
        pixels = Preprocessor(spec.preprocessing, *size, pixels=take_pixels(taking, scale))
        session = Session(taking.SerializeToString(), threads=threads)
        lines.append(Line(name, staged(pixels, session, decoder, frame)))
    return lines


def staged(
    preprocess: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], Letterbox]],
    session: Session,
    decoder: Decoder,
    frame: NDArray[np.uint8],
) -> Callable[[], StageTimes]:
    """Return a run of three stages, as a detector does them."""

    def run() -> StageTimes:
        started = perf_counter()
        tensor, geometry = preprocess(frame)
        prepared = perf_counter()
        outputs = session.run(tensor)
        inferred = perf_counter()
        found = decoder.candidates(outputs, 0.25)
        kept = nms(found.boxes_xyxy, found.scores, found.class_ids, iou_threshold=0.45, max_detections=300)
        geometry.to_frame(found.boxes_xyxy[kept])
        done = perf_counter()
        return StageTimes((prepared - started) * 1e3, (inferred - prepared) * 1e3, (done - inferred) * 1e3)

    return run


def show(model: Path, lines: list[Line]) -> None:
    """Print the medians of every stage."""
    print(f"\n{model.name}")
    print(f"{'':32s} {'pre':>8s} {'session':>8s} {'post':>8s} {'outside':>8s} {'total':>8s} {'cpu':>8s}")
    for line in lines:
        stages = {
            "pre": median(times.pre_ms for times in line.times),
            "session": median(times.session_ms for times in line.times),
            "post": median(times.post_ms for times in line.times),
            "outside": median(times.pre_ms + times.post_ms for times in line.times),
            "total": median(times.total_ms for times in line.times),
            "cpu": median(line.cpu_ms),
        }
        print(f"{line.name:32s} " + " ".join(f"{value:8.2f}" for value in stages.values()))


if __name__ == "__main__":
    main()
