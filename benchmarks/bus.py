"""What the bus costs: camera to detections, 1080p at 30 frames per second, beside the same work in one process.

    python benchmarks/bus.py [--seconds 20] [--rounds 3] [--size 1920x1080] [--fps 30]

`mecha dev` runs a camera that has its frames already and the object-detector with arena-n in FP32 on one thread; a
listener in its process takes the detections, as a screen does. The same work in one process is a loop: wait for the
frame, detect, write the detections as JSON. Both take turns, so that whatever slows the machine slows both.

"outside" is the time from the capture of a frame to its detections being there, without the milliseconds that the
detector itself took; the added latency is what the nodes have of it beyond the median of the one process. CPU is that
of all processes together, with all that a node does besides (log, events, watching its config), of one core, at the
frames per second asked for. Last come the copies of a frame on its way, medians.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from mecha.arena.camera import ArenaCamera
from mecha.detect.detector import Detector
from mecha.project import find_project
from mecha.runtime.bus import Bus, Sample
from mecha.runtime.bus.memory import shared_memory_bytes
from mecha.runtime.bus.pool import SharedPool
from mecha.runtime.dev import DevOptions, run_dev
from mecha.runtime.messages import DetectionsMessage, FrameMessage
from mecha.runtime.sources.pace import Pace
from mecha.runtime.timing import percentile
from mecha.store.models import ModelStore

MODEL = "arena-n"
PICTURES = 4
COPIES = 100
WARM_UP_S = 4.0
CAMERA = '''
"""A camera that has its frames already."""
import time
from pathlib import Path
import numpy as np
from mecha.runtime.messages import FrameMessage
from mecha.runtime.node import Node
from mecha.runtime.sources.pace import Pace

class Camera(Node):
    outputs = {{"/camera/rgb": FrameMessage}}

    def setup(self) -> None:
        self.frames = np.load("frames.npy")
        self.seq = 0
        self.pace = Pace({fps})

    def step(self, message: None) -> None:
        self.wait(self.pace.wait_s(time.monotonic()))
        frame = self.frames[self.seq % len(self.frames)]
        self.publish("/camera/rgb", FrameMessage(frame, self.seq, time.time_ns(), "bench"))
        self.seq += 1
'''


@dataclass(frozen=True)
class Measured:
    """One way of doing the work, for some seconds.

    Attributes:
        total_ms: from capture to detections, by frame; outside_ms: the same without the detector's own time.
        cpu_ms: of each process for a frame, by its name.
        frames: that were worked on; missing: that were not.
    """

    total_ms: list[float]
    outside_ms: list[float]
    cpu_ms: dict[str, float]
    frames: int
    missing: int


def main() -> None:
    """Measure and print; or be the one process."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--size", default="1920x1080")
    arguments.add_argument("--fps", type=float, default=30)
    arguments.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.alone:
        print(json.dumps(alone(options.alone, options.seconds, options.fps).__dict__))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = lay_out(Path(folder) / "project", options.size, options.fps)
        rounds = []
        for _ in range(options.rounds):
            command = [sys.executable, __file__, "--alone", str(root), "--seconds", str(options.seconds)]
            done = subprocess.run([*command, "--fps", str(options.fps)], check=True, stdout=subprocess.PIPE)
            rounds.append((Measured(**json.loads(done.stdout)), through_nodes(root, options.seconds)))
    show(rounds, options.fps)
    show_copies(options.size)


def lay_out(root: Path, size: str, fps: float) -> Path:
    """Make a project with a model, frames, and nodes that show and look at them."""
    import numpy as np

    for command in (["init", str(root)], ["models", "pull", MODEL, "--no-quantize"]):
        cwd = None if command[0] == "init" else root
        subprocess.run([sys.executable, "-m", "mecha", *command], check=True, cwd=cwd, stdout=subprocess.DEVNULL)
    width, height = map(int, size.split("x"))
    camera = ArenaCamera(0, width, height)
    np.save(root / "frames.npy", np.stack([camera.scene(20 * number).frame_bgr for number in range(PICTURES)]))
    (root / "nodes" / "camera" / "node.py").write_text(CAMERA.format(fps=fps), encoding="utf-8")
    configs = root / "configs" / "common" / "nodes"
    (configs / "camera" / "config.json").unlink()
    config = {"model": MODEL, "use_int8": False, "threads": 1, "self_calibrate": False}
    (configs / "object-detector" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return root


def alone(root: Path, seconds: float, fps: float) -> Measured:
    """Do the work in this process."""
    import numpy as np

    frames = np.load(root / "frames.npy")
    detector = Detector(ModelStore(root / "models").require(MODEL).path, precision="fp32", threads=1)
    detector.warm_up()
    pace, process = Pace(fps), psutil.Process()
    total_ms: list[float] = []
    outside_ms: list[float] = []
    for number in range(int(fps * WARM_UP_S) + int(fps * seconds)):
        if number == int(fps * WARM_UP_S):
            began = cpu_s(process)
        time.sleep(pace.wait_s(time.monotonic()))
        message = FrameMessage(frames[number % len(frames)], number, time.time_ns(), "bench")
        result = detector.run(message.frame_bgr)
        DetectionsMessage.of(message, result, MODEL).encode()
        total_ms.append((time.time_ns() - message.captured_at) / 1e6)
        outside_ms.append(total_ms[-1] - result.times.total_ms)
    count = int(fps * seconds)
    return Measured(
        total_ms[-count:], outside_ms[-count:], {"one process": (cpu_s(process) - began) / count * 1e3}, count, 0
    )


def through_nodes(root: Path, seconds: float) -> Measured:
    """Let `mecha dev` do the work."""
    came: list[tuple[int, bytes]] = []
    cpu: list[tuple[float, dict[str, float]]] = []

    def listen(_supervisor: object, bus: Bus) -> None:
        def take(sample: Sample) -> None:
            came.append((time.time_ns(), sample.payload))

        bus.subscribe("/vision/object/detections", take)

    def look() -> None:
        while not came:
            time.sleep(0.05)
        for wait_s in (WARM_UP_S, seconds):
            time.sleep(wait_s)
            cpu.append((time.time_ns(), cpu_by_process()))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    options = DevOptions(duration_s=WARM_UP_S + seconds + 2)
    summary = run_dev(find_project(root, os.environ), (), options, ignore, ignore, on_begin=listen)
    looking.join()
    if summary.failure:
        raise SystemExit(summary.failure)
    (begin, before), (end, after) = cpu
    found = [(at, json.loads(payload)) for at, payload in came if begin <= at < end]
    total_ms = [(at - message["captured_at"]) / 1e6 for at, message in found]
    outside_ms = [total - sum(message["ms"].values()) for total, (_, message) in zip(total_ms, found, strict=True)]
    count = len(found)
    missing = found[-1][1]["frame"] - found[0][1]["frame"] + 1 - count
    used = {name: (after[name] - before[name]) / count * 1e3 for name in before}
    return Measured(total_ms, outside_ms, used, count, missing)


def ignore(_told: object) -> None:
    """Take lines and events, as a program does that shows none."""


def cpu_by_process() -> dict[str, float]:
    """Return the seconds of CPU of each node and of this process, which supervises them and hosts their bus."""
    used = {"mecha dev": cpu_s(psutil.Process())}
    for child in psutil.Process().children():
        line = child.cmdline()
        if "mecha.runtime.run" in line:
            used[line[line.index("mecha.runtime.run") + 1]] = cpu_s(child)
    return used


def cpu_s(process: psutil.Process) -> float:
    """Return the seconds of CPU that a process has had."""
    times = process.cpu_times()
    return float(times.user + times.system)


def show(rounds: list[tuple[Measured, Measured]], fps: float) -> None:
    """Print medians over the rounds."""

    def of(which: int, values: str, share: float) -> float:
        return median(percentile(getattr(pair[which], values), share) or 0.0 for pair in rounds)

    def core(cpu_ms: float) -> str:
        return f"{cpu_ms * fps / 10:.1f} %"

    print(f"{'':28s}{'one process':>14s}{'nodes':>14s}")
    for title, values in (("capture to detections", "total_ms"), ("  outside the detector", "outside_ms")):
        for name, share in (("median", 0.5), ("p95", 0.95)):
            row = "".join(f"{of(which, values, share):>11.2f} ms" for which in (0, 1))
            print(f"{f'{title}, {name}':28s}{row}")
    cpu = [median(sum(pair[which].cpu_ms.values()) for pair in rounds) for which in (0, 1)]
    print(f"{'CPU, of one core':28s}{core(cpu[0]):>14s}{core(cpu[1]):>14s}")
    for name in rounds[0][1].cpu_ms:
        print(f"{f'  {name}':42s}{core(median(pair[1].cpu_ms[name] for pair in rounds)):>14s}")
    frames, missing = (sum(getattr(pair[1], field) for pair in rounds) for field in ("frames", "missing"))
    print(f"frames through the nodes: {frames}, missing: {missing}")
    usual_ms = of(0, "outside_ms", 0.5)
    added: dict[str, Any] = {
        name: of(1, "outside_ms", share) - usual_ms for name, share in (("median", 0.5), ("p95", 0.95))
    }
    print(
        f"added latency: median {added['median']:.2f} ms, p95 {added['p95']:.2f} ms; added CPU: {core(cpu[1] - cpu[0])}"
    )


def show_copies(size: str) -> None:
    """Print what each copy of a frame takes on its way through the bus."""
    import numpy as np
    import zenoh

    width, height = map(int, size.split("x"))
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pool = SharedPool(zenoh, shared_memory_bytes())
    took_ms: dict[str, list[float]] = {}
    for _ in range(COPIES):
        moments = [time.perf_counter()]
        payload, header = FrameMessage(frame, 0, 0).encode()
        moments.append(time.perf_counter())
        held = pool.holding(payload)
        moments.append(time.perf_counter())
        if held is None:
            raise SystemExit("no shared memory here, or too little: see `ulimit -l` and /dev/shm")
        received = bytes(held)
        moments.append(time.perf_counter())
        FrameMessage.decode(Sample("/camera/rgb", received, header))
        moments.append(time.perf_counter())
        steps = ("frame to bytes", "bytes to shared memory", "shared memory to bytes", "bytes to frame (no copy)")
        for step, begin, end in zip(steps, moments[:-1], moments[1:], strict=True):
            took_ms.setdefault(step, []).append((end - begin) * 1e3)
    for step, times in took_ms.items():
        print(f"{step:28s}{median(times):>11.2f} ms")


if __name__ == "__main__":
    main()
