"""A detector that runs for a long time: the memory it holds, the memory it gains, and its CPU between frames.

    python benchmarks/steady.py MODEL.onnx MODEL-int8.onnx [--frames 2000] [--threads 1] [--shapes]

Both precisions are loaded and warm in one process, as in the node that switches between them; frames go to the second.
With --shapes they go to both, and are of every shape from tall to wide, as the photos of a folder: of a model with
dynamic axes each shape is another input.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import psutil

from mecha.detect.detector import Detector
from mecha.detect.locate import inspected_spec
from mecha.graph.inspect import inspect_model

FRAME = (1080, 1920, 3)
SHAPES = [(side, 640) for side in range(30, 641, 32)] + [(640, side) for side in range(30, 641, 32)]
SETTLED_AFTER = 500
IDLE_FPS = 5
IDLE_FRAMES = 50


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("fp32", type=Path)
    arguments.add_argument("int8", type=Path)
    arguments.add_argument("--frames", type=int, default=2000)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--shapes", action="store_true", help="frames of 40 shapes, through both")
    options = arguments.parse_args()
    process = psutil.Process()
    folder = options.fp32.parent
    if (folder / "manifest.json").is_file():
        # As the node loads them: with the description that was published, without a look into the graph.
        from mecha.detect.locate import read_spec

        spec = read_spec(folder / "config.json")
    else:
        spec = inspected_spec(options.fp32, inspect_model(options.fp32))
    detectors = [
        Detector.from_file(options.fp32, spec, precision="FP32", threads=options.threads),
        Detector.from_file(options.int8, spec, precision="INT8", threads=options.threads),
    ]
    for detector in detectors:
        detector.warm_up()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, FRAME, dtype=np.uint8) for _ in range(2)]
    if options.shapes:
        frames = [frames[0][:height, :width] for height, width in SHAPES]
    running = detectors if options.shapes else detectors[1:]
    print(f"both warm: {megabytes(process):.1f} MB resident")
    settled = highest = 0.0
    for number in range(options.frames):
        for detector in running:
            detector.run(frames[number % len(frames)])
        if number % 50 == 0 or number == options.frames - 1:
            highest = max(highest, megabytes(process))
        if number == min(SETTLED_AFTER, options.frames // 4):
            settled = megabytes(process)
    print(f"after {options.frames} frames: {megabytes(process):.1f} MB, at most {highest:.1f} MB")
    print(f"gained after the first {min(SETTLED_AFTER, options.frames // 4)}: {megabytes(process) - settled:+.2f} MB")
    busy_s = waited_s = 0.0
    for number in range(IDLE_FRAMES):
        began = time.perf_counter()
        detectors[1].run(frames[number % len(frames)])
        left_s = 1 / IDLE_FPS - (time.perf_counter() - began)
        used = process.cpu_times()
        time.sleep(max(left_s, 0.0))
        after = process.cpu_times()
        busy_s += after.user + after.system - used.user - used.system
        waited_s += max(left_s, 0.0)
    print(f"between frames at {IDLE_FPS} per second: {busy_s / waited_s:.2%} of a core")


def megabytes(process: psutil.Process) -> float:
    """Return the resident memory of a process, 10^6 bytes."""
    return float(process.memory_info().rss) / 1e6


if __name__ == "__main__":
    main()
