"""The process that detects in single pictures: `python -m mecha.daemon.detect_child FOLDER --precision auto`.

Of a core that a node wants too it gets a twentieth, so that the nodes keep their frames. A picture that breaks a
decoder ends this process and nothing else. One question after the other comes on standard input, and one answer goes to
standard output for each, and one before the first, when the model is loaded:

    question    length (4 bytes, big-endian), score threshold (4 bytes, float), the bytes of the picture
    answer      length (4 bytes, big-endian), JSON: {"found":{…}} or {"kind","error","hint"}
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO

import psutil

from mecha.daemon.problems import problem_of
from mecha.errors import MechaError
from mecha.runtime.events import take_stdout

if TYPE_CHECKING:
    from mecha.detect.detector import Detector

QUESTION = struct.Struct("!If")
ANSWER = struct.Struct("!I")
NICENESS = 13
"""The scheduler of Linux gives it 5 % of a core beside a process of the usual 0; 19 would starve it for minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until standard input ends; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = take_stdout()
    parser = argparse.ArgumentParser(prog="python -m mecha.daemon.detect_child")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=["auto", "fp32", "int8"], default="auto")
    parser.add_argument("--niceness", type=int, default=NICENESS)
    parsed = parser.parse_args(arguments)
    give_way(parsed.niceness)
    questions: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(questions,), name="questions", daemon=True).start()
    try:
        from mecha.detect.detector import Detector

        # More threads would be no quicker: they get what is left of the cores together.
        detector = Detector(parsed.folder, precision=parsed.precision, threads=1)
        detector.warm_up()
    except MechaError as error:
        _answer(pipe, problem_of(error).model_dump())
        return error.exit_code
    _answer(pipe, {"found": {"precision": detector.precision, "notice": detector.notice}})
    while True:
        score, data = questions.get()
        _answer(pipe, _detected(detector, score, data))


def give_way(niceness: int) -> None:
    """Take little of the time that another process wants."""
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.IDLE_PRIORITY_CLASS)
        return
    process.nice(max(niceness, process.nice()))
    # Where the system shares time out by session, the niceness of a process counts within its session only.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(process.nice()), encoding="ascii")


def _detected(detector: "Detector", score: float, data: bytes) -> dict[str, Any]:
    from mecha.detect.images import decode_image

    try:
        began_s = perf_counter()
        frame = decode_image(data, where="the picture")
        decoded_ms = (perf_counter() - began_s) * 1e3
        limits = {"iou_threshold": 0.45, "max_detections": 300}
        result = detector.with_thresholds(score_threshold=score, **limits).run(frame)  # type: ignore[arg-type]  # an int
    except MechaError as error:
        return problem_of(error).model_dump()
    height, width = frame.shape[:2]
    times = {"decode": decoded_ms, "pre": result.times.pre_ms, "session": result.times.session_ms}
    times["post"] = result.times.post_ms
    return {
        "found": {
            "width": width,
            "height": height,
            "precision": result.precision,
            "notice": detector.notice,
            "detections": result.detections.to_json(),
            "ms": {name: round(ms, 3) for name, ms in times.items()},
        }
    }


def _read(questions: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
    """Read what is asked; the end of it is the end of this process, whatever it does just then."""
    while True:
        head = _exactly(QUESTION.size)
        length, score = QUESTION.unpack(head)
        questions.put((score, _exactly(length)))


def _exactly(length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        # Not sys.stdin: a thread inside of it keeps the interpreter from ending.
        piece = os.read(0, min(length - len(data), 1 << 20))
        if not piece:
            os._exit(0)
        data += piece
    return bytes(data)


def _answer(pipe: BinaryIO, answer: dict[str, Any]) -> None:
    text = json.dumps(answer).encode()
    pipe.write(ANSWER.pack(len(text)) + text)
    pipe.flush()


if __name__ == "__main__":
    sys.exit(main())
