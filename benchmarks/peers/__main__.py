r"""Measures mecha beside its peers, end to end, in turns on the same frames.

    python -m venv .peers && .peers/bin/pip install -e '.[bench]'
    .peers/bin/python benchmarks/peers --model yolov8n.onnx --video traffic.mp4 --photos calib/ \
        --write docs/performance.md

Each contender is a process of its own, so that CPU seconds and peak memory are its alone; they run one after the other
on each frame, never at the same time, so that what else the machine does hits them alike. A contender that is not
installed is left out and named.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2

sys.path.insert(0, str(Path(__file__).parent))

from contenders import CONTENDERS, Lap, Setting

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
BASE = "Ultralytics FP32 ONNX"
PACKAGES = ("mecha", "onnxruntime", "ultralytics", "torch", "openvino", "nncf", "opencv-python-headless", "numpy")
STAGES = ("pre_ms", "session_ms", "post_ms")
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender did."""

    name: str
    laps: list[Lap]
    cpu_s: float
    peak_mb: float


def main() -> int:
    """Measure, print, and write the table where asked."""
    options = _options()
    if options.worker:
        return _work(options)
    with tempfile.TemporaryDirectory() as work:
        rows, left_out = _measure(options, Path(work))
    table = "\n".join(_table(rows, left_out, options))
    print(table)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        options.write.write_text(f"{page[:start]}\n{table}\n{page[end:]}", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="FP32 ONNX file of the yolov8 family, 640x640")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="folder of calibration photos for NNCF")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="CONTENDER", help="leave the others out")
    parser.add_argument("--write", type=Path, help="page to write the table into, between its markers")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _work(options: argparse.Namespace) -> int:
    """Be one contender: answer each frame number on standard input with the lap of that frame."""
    cv2.setNumThreads(options.threads)
    setting = Setting(options.model, options.work, options.photos, options.threads)
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries print; the answers must stay alone
    run = CONTENDERS[options.worker](setting)
    frames = _frames(options.video, options.frames)
    for index in range(_WARM_UP):
        run(frames[index % len(frames)])
    answers.write("ready\n")
    answers.flush()
    spent = time.process_time()
    for line in sys.stdin:
        if not line.strip().isdigit():
            break
        answers.write(json.dumps(asdict(run(frames[int(line)]))) + "\n")
        answers.flush()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers.write(json.dumps({"cpu_s": time.process_time() - spent, "peak_mb": peak_mb}) + "\n")
    answers.flush()
    return 0


def _frames(video: Path, count: int) -> list[Any]:
    capture = cv2.VideoCapture(str(video))
    frames: list[Any] = []
    while len(frames) < count:
        whole, frame = capture.read()
        if not whole:
            break
        frames.append(frame)
    return frames


def _measure(options: argparse.Namespace, work: Path) -> tuple[list[Row], list[str]]:
    processes: dict[str, subprocess.Popen[str]] = {}
    left_out = []
    for name in options.only or CONTENDERS:
        command = [sys.executable, *sys.argv, "--worker", name, "--work", str(work)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if _line_of(process) == "ready":
            processes[name] = process
        else:
            left_out.append(f"{name}: {process.communicate()[1].strip().splitlines()[-1]}")
    laps: dict[str, list[Lap]] = {name: [] for name in processes}
    for index in range(options.frames):
        for name, process in processes.items():
            laps[name].append(Lap(**json.loads(_asked(process, str(index)))))
    rows = []
    for name, process in processes.items():
        end = json.loads(_asked(process, "end"))
        process.communicate()
        rows.append(Row(name, laps[name], end["cpu_s"], end["peak_mb"]))
    return rows, left_out


def _asked(process: "subprocess.Popen[str]", question: str) -> str:
    if process.stdin is None:
        raise ValueError("the process was started without a pipe")
    process.stdin.write(question + "\n")
    process.stdin.flush()
    return _line_of(process)


def _line_of(process: "subprocess.Popen[str]") -> str:
    return process.stdout.readline().strip() if process.stdout else ""


def _table(rows: list[Row], left_out: list[str], options: argparse.Namespace) -> list[str]:
    totals = {row.name: statistics.median(lap.total_ms for lap in row.laps) for row in rows}
    base = totals.get(BASE)
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    lines = [
        f"{options.model.name}, 640x640, {options.video.name} (1080p), {options.frames} frames in turns, {threads}; "
        "medians.",
        f"{_machine()}. {', '.join(_versions())}.",
        "",
        f"| contender | end to end ms | pre | session | post | against {BASE} | CPU s | peak MB | objects a frame |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda row: totals[row.name]):
        stages = [statistics.median(getattr(lap, stage) for lap in row.laps) for stage in STAGES]
        ratio = f"{base / totals[row.name]:.2f}x" if base else "-"
        objects = statistics.mean(lap.found for lap in row.laps)
        lines.append(
            f"| {row.name} | {totals[row.name]:.1f} | {stages[0]:.1f} | {stages[1]:.1f} | {stages[2]:.1f} | {ratio} "
            f"| {row.cpu_s:.1f} | {row.peak_mb:.0f} | {objects:.1f} |"
        )
    lines += [f"\nNot measured: {reason}" for reason in left_out]
    return lines


def _machine() -> str:
    from mecha.graph.cpu import cpu_features

    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({cpu_features().key()}), {len(names)} cores"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
