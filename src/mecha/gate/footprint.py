"""How much memory a model takes while it runs: `python -m mecha.gate.footprint`, a question on standard input.

Each is measured in a process that does nothing else. One that has built or compared models uses again what those left
behind: there, FP32 of yolov8n at 640 seemed to take 1 MB, in a process of its own it takes 77.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mecha.detect.detector import Detector, Precision
from mecha.detect.memory import give_back_memory
from mecha.detect.preprocess import Preprocessor
from mecha.store.manifest import MemoryRecord
from mecha.store.process import resident_bytes
from mecha.store.spec import Frozen, ModelSpec

_TIMEOUT_S = 60.0
# The second run lays out nothing that the first has not.
_RUNS = 2


class _Question(Frozen):
    """Which file is to be run, and how."""

    file: Path
    spec: ModelSpec
    precision: Precision
    threads: int


class _Answer(Frozen):
    """What came of it.

    Attributes:
        added: bytes by which the process has grown.
        prepared: it ran from a copy that was prepared before, as every start but the first does.
    """

    added: int
    prepared: bool


def measure_memory(fp32: Path, int8: Path, spec: ModelSpec, *, threads: int) -> MemoryRecord | None:
    """Measure both precisions, each in a process of its own.

    Args:
        spec: describes both.
        threads: of each session.

    Returns:
        None where one could not be measured: what cannot be run is for the gate to say.
    """
    questions = (
        _Question(file=fp32, spec=spec, precision="FP32", threads=threads),
        _Question(file=int8, spec=spec, precision="INT8", threads=threads),
    )
    with ThreadPoolExecutor(len(questions)) as pool:
        ours, theirs = pool.map(_asked, questions)
    if ours is None or theirs is None:
        return None
    return MemoryRecord(threads=threads, fp32_mb=round(ours.added / 1e6, 1), int8_mb=round(theirs.added / 1e6, 1))


def _asked(question: _Question) -> _Answer | None:
    answer = _answered(question)
    # The first start of a file prepares its copy, for which it loads what no later one needs.
    return answer if answer is None or answer.prepared else _answered(question)


def _answered(question: _Question) -> _Answer | None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mecha.gate.footprint"],
            input=question.model_dump_json(by_alias=True),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        return _Answer.model_validate_json(done.stdout)
    except (subprocess.SubprocessError, OSError, ValidationError):
        return None


def _measured(question: _Question) -> _Answer:
    """Load and run a model in this process."""
    from mecha.arena.scene import calibration_scene

    spec = question.spec
    frame = calibration_scene(0, 0, spec.input.width, spec.input.height)
    _load_libraries(spec, frame)
    give_back_memory()
    before = resident_bytes()
    detector = Detector.from_file(question.file, spec, precision=question.precision, threads=question.threads)
    for _ in range(_RUNS):
        detector.run(frame)
    give_back_memory()
    return _Answer(added=max(resident_bytes() - before, 0), prepared="onnx" not in sys.modules)


def _load_libraries(spec: ModelSpec, frame: NDArray[np.uint8]) -> None:
    """Import what every model needs, so that it does not count."""
    import onnxruntime  # noqa: F401 - loaded, not used

    Preprocessor(spec.preprocessing, spec.input.height, spec.input.width)(frame)


def main() -> None:
    """Answer the question on standard input."""
    question = _Question.model_validate_json(sys.stdin.read())
    sys.stdout.write(_measured(question).model_dump_json())


if __name__ == "__main__":
    main()
