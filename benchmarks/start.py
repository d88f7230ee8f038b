"""What it takes until a detector is loaded, and what it holds then.

    python benchmarks/start.py MODEL.onnx [MODEL-int8.onnx] [--processes 8] [--threads 1]

Lines: with a prepared copy, without one, and with one but without each trick that keeps memory small. Every figure is
the median of so many fresh processes, the lines in turns. Times run from the first import of mecha to a loaded
detector, in milliseconds of the clock and of CPU; memory is resident, in 10^6 bytes: when it is loaded, and after 10
frames of 1080p.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

COPY, NO_COPY, PLANNED, HEAP = "a copy", "no copy", "a copy, tensors in one planned block", "a copy, heap kept"
LINES = (NO_COPY, COPY, PLANNED, HEAP)
FIGURES = ("clock_ms", "cpu_ms", "loaded_mb", "warm_mb")
FRAMES = 10


def main() -> None:
    """Measure the files given and print one table each; or be the process that is measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="+", type=Path)
    arguments.add_argument("--processes", type=int, default=8)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--line", choices=LINES, help=argparse.SUPPRESS)
    arguments.add_argument("--config", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.line:
        print(json.dumps(load(options.models[0], options.config, options.threads, options.line)))
        return
    for model in options.models:
        with tempfile.TemporaryDirectory() as work:
            write_config(model, Path(work) / "config.json")
            measured(model, COPY, options.threads, Path(work))
            rounds = [
                {line: measured(model, line, options.threads, Path(work)) for line in LINES}
                for _ in range(options.processes)
            ]
        print(f"\n{model.name:40s}" + "".join(f"{figure:>12s}" for figure in FIGURES))
        for line in LINES:
            figures = (median(one[line][figure] for one in rounds) for figure in FIGURES)
            print(f"{line:40s}" + "".join(f"{figure:12.0f}" for figure in figures))


def write_config(model: Path, file: Path) -> None:
    """Describe a model as a published one is, so that no process has to look into the graph for that."""
    from mecha.detect.locate import inspected_spec
    from mecha.graph.inspect import inspect_model

    file.write_text(inspected_spec(model, inspect_model(model)).model_dump_json(by_alias=True), encoding="utf-8")


def measured(model: Path, line: str, threads: int, work: Path) -> dict[str, float]:
    """Run one process; a line without copies gets a cache of its own, empty."""
    command = [sys.executable, __file__, str(model), "--threads", str(threads), "--line", line]
    command += ["--config", str(work / "config.json")]
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"MECHA_CACHE_DIR": empty if line == NO_COPY else str(work / "cache")}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def load(model: Path, config: Path, threads: int, line: str) -> dict[str, float]:
    """Load a detector in this process, run it, and say what that took."""
    from time import perf_counter, process_time

    began, used = perf_counter(), process_time()
    from mecha.detect import pipeline, session
    from mecha.detect.detector import Detector
    from mecha.detect.locate import read_spec

    if line == PLANNED:
        options_of = session.session_options

        def planned(threads: int) -> Any:  # noqa: ANN401 - onnxruntime is imported later
            options = options_of(threads)
            options.enable_mem_pattern = True
            return options

        session.session_options = planned
    if line == HEAP:
        setattr(pipeline, "give_back_memory", lambda: None)  # noqa: B010 - the type checker holds the name for private
    detector = Detector.from_file(model, read_spec(config), precision="FP32", threads=threads)
    clock_ms, cpu_ms = (perf_counter() - began) * 1e3, (process_time() - used) * 1e3
    loaded_mb = resident_mb()
    import numpy as np

    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    for _ in range(FRAMES):
        detector.run(frame)
    return {"clock_ms": clock_ms, "cpu_ms": cpu_ms, "loaded_mb": loaded_mb, "warm_mb": resident_mb()}


def resident_mb() -> float:
    """Return the resident memory of this process."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    main()
