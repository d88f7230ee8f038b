"""A camera at 30 frames a second, and `use_int8` that changes in config.json all the time: is a frame lost or mixed?

python -m tests.reliability.toggles [--seconds 60] [--toggles 200] [--size 640x480]

The nodes that ship run as `mecha dev` runs them, with the embedded model in FP32 and INT8. Tags and numbers of every
result are read from the bus, and some frames too: each of these is detected in again, by both files, beside the run.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import mecha.arena
from mecha.arena.camera import ArenaCamera
from mecha.detect.detector import Detector
from mecha.detect.locate import inspected_spec
from mecha.graph.inspect import inspect_model
from mecha.project import bundled_dir, find_project
from mecha.quantize.dynamic import build_dynamic
from mecha.runtime.bus import Bus, Sample
from mecha.runtime.dev import DevOptions, DevSummary, run_dev
from mecha.runtime.messages import DetectionsMessage, FrameMessage
from mecha.runtime.supervisor import Supervisor
from tests.runtime.waiting import wait_for

FRAMES, DETECTIONS = "/camera/rgb", "/vision/object/detections"
CAMERA, DETECTOR = "camera", "object-detector"
MODEL = "m/arena-n.onnx"
FILES = {"FP32": "m/arena-n.onnx", "INT8": "m/arena-n-int8.onnx"}
CLIP, CLIP_FRAMES, FPS = "clip.avi", 90, 30
DEADLINE_S = 120.0
SAMPLES, MOST_SAMPLES = 100, 400
LEAST_CONFIRMED = 10
# What both precisions loaded and warm may grow by, as where one process switches by itself.
GROWTH_MB = 20.0


@dataclass
class Run:
    """What was seen of one run.

    Attributes:
        results: with the time each came, seconds since 1970.
        frames: some frames by their number.
        toggles: how often config.json was changed.
    """

    results: list[tuple[float, DetectionsMessage]] = field(default_factory=list)
    frames: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    captured: dict[int, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    toggles: int = 0
    summary: DevSummary = field(default_factory=lambda: DevSummary({}))

    def of(self, event: str) -> Iterator[dict[str, Any]]:
        """Give the events of the detector of one kind."""
        return (one for one in self.events if one["event"] == event and one["node"] == DETECTOR)

    @property
    def precision(self) -> str:
        """Of the last result."""
        return self.results[-1][1].precision if self.results else ""


@dataclass(frozen=True)
class Proof:
    """What a run shows.

    Attributes:
        faults: what is not as it must be.
        figures: by name.
    """

    faults: tuple[str, ...]
    figures: dict[str, float]


def project(folder: Path, size: tuple[int, int]) -> Path:
    """Lay out the nodes that ship, the embedded model in both precisions, and a video of the arena to loop.

    Args:
        size: width and height of the video, pixels.
    """
    (folder / "m").mkdir(parents=True)
    (folder / "model_catalog.toml").touch()
    for part in ("nodes", "configs"):
        shutil.copytree(bundled_dir() / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(mecha.arena.__file__).parent / "arena-n.onnx", folder / FILES["FP32"])
    build_dynamic(folder / FILES["FP32"], folder / FILES["INT8"])
    _film(folder / CLIP, size)
    _config(folder, CAMERA).write_text(json.dumps({"source": CLIP, "loop": True}))
    _write(folder, 0, use_int8=False)
    return folder


def _film(file: Path, size: tuple[int, int]) -> None:
    """Render the frames once: rendered live, they would take the CPU that is to run them."""
    camera = ArenaCamera(0, *size)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), FPS, size)
    for index in range(CLIP_FRAMES):
        writer.write(camera.scene(index).frame_bgr)
    writer.release()


def watched(root: Path, *, seconds: float, toggles: int) -> Run:
    """Run the project, and toggle so often in so many seconds."""
    run = Run()
    failures: list[BaseException] = []
    threads: list[threading.Thread] = []

    def result(sample: Sample) -> None:
        run.results.append((time.time(), DetectionsMessage.decode(sample)))

    def frame(sample: Sample) -> None:
        taken = FrameMessage.decode(sample)
        run.captured[taken.seq] = taken.captured_at
        every = max(1, int(seconds * FPS / SAMPLES))
        if taken.seq % every == 0 and len(run.frames) < MOST_SAMPLES:
            run.frames[taken.seq] = taken.frame_bgr.copy()

    def begin(supervisor: Supervisor, bus: Bus) -> None:
        bus.subscribe(DETECTIONS, result)
        bus.subscribe(FRAMES, frame)
        threads.append(threading.Thread(target=beside, args=(supervisor.stop,)))
        threads[0].start()

    def beside(stop: Callable[[], None]) -> None:
        try:
            _toggle(root, run, seconds, toggles)
        except AssertionError as error:
            failures.append(error)
        finally:
            stop()

    # Without self-calibration of other nodes, recordings or faults: as a user runs it.
    run.summary = run_dev(
        find_project(root, os.environ), (), DevOptions(), lambda line: None, run.events.append, on_begin=begin
    )
    threads[0].join()
    if failures:
        raise failures[0]
    return run


def _toggle(root: Path, run: Run, seconds: float, toggles: int) -> None:
    wait_for(lambda: run.precision == "FP32", timeout_s=DEADLINE_S)
    began = time.monotonic()
    for index in range(toggles):
        wanted = ("INT8", "FP32")[index % 2]
        _write(root, index, use_int8=wanted == "INT8")
        run.toggles += 1
        wait_for(lambda wanted=wanted: run.precision == wanted, timeout_s=DEADLINE_S)  # type: ignore[misc]
        due = began + (index + 1) * seconds / toggles
        wait_for(lambda due=due: time.monotonic() >= due, timeout_s=DEADLINE_S)  # type: ignore[misc]


def _config(root: Path, node: str) -> Path:
    return root / "configs/common/nodes" / node / "config.json"


def _write(root: Path, index: int, *, use_int8: bool) -> None:
    """Change the file as editors do: in its place, or with another one put in its place."""
    file = _config(root, DETECTOR)
    text = json.dumps({"model_path": MODEL, "use_int8": use_int8, "self_calibrate": False}, indent=2)
    if index % 2:
        file.with_name("new").write_text(text)
        file.with_name("new").replace(file)
    else:
        file.write_text(text)


def proof(root: Path, run: Run) -> Proof:
    """Look at what was seen."""
    results = [message for _, message in run.results]
    numbers = [message.frame for message in results]
    stats = run.summary.nodes
    camera, detector = stats[CAMERA], stats[DETECTOR]
    digests = {precision: sha256((root / file).read_bytes()).hexdigest() for precision, file in FILES.items()}
    switches = sum(before.precision != after.precision for before, after in pairwise(results))
    sizes = [event["rss_mb"] for event in run.of("stats") if event["precision"] is not None]
    settled = sizes[len(sizes) // 3 :]
    confirmed = Counter(_made_by(root, run))
    checks = {
        f"it ended with {run.summary.exit_code}: {run.summary.failure}": not run.summary.failure,
        "a result came twice, or out of order": numbers == sorted(set(numbers)),
        "a frame that was worked on has no result": numbers == [event["frame"] for event in run.of("inference")],
        f"{detector.frames} worked on and {detector.dropped} dropped are not {camera.frames}, of which {numbers[0]} to "
        f"{numbers[-1]} have results and {max(run.captured)} was the last that came here": (
            detector.frames + detector.dropped == camera.frames and detector.frames == len(numbers)
        ),
        "a tag does not name the file of its precision": all(
            message.model_digest == digests[message.precision] and message.model == "arena-n" for message in results
        ),
        f"{run.toggles} toggles made {switches} switches": switches == run.toggles,
        f"{len(list(run.of('swap')))} of {run.toggles} switches were told": len(list(run.of("swap"))) == run.toggles,
        f"{confirmed['neither']} results are of neither file, {confirmed['other']} of the other one": (
            confirmed["neither"] + confirmed["other"] == 0
        ),
        f"only {confirmed['its own']} results tell the two files apart": confirmed["its own"] >= LEAST_CONFIRMED,
        f"the memory grew from {settled[0]:.0f} to {settled[-1]:.0f} MB": settled[-1] - settled[0] < GROWTH_MB,
    }
    idle, near = _lost_while_idle(run)
    return Proof(
        tuple(fault for fault, right in checks.items() if not right),
        {
            "toggles": run.toggles,
            "frames of the camera": camera.frames,
            "frames per second": _per_second(run.captured.values()),
            "worked on": detector.frames,
            "dropped while the detector was busy": detector.dropped - idle,
            "dropped while it was not": idle,
            "of these within a frame of a switch": near,
            "frames detected in again": confirmed.total(),
            "of these with results that tell FP32 from INT8": confirmed["its own"],
            "memory after a third, MB": settled[0],
            "memory at the end, MB": settled[-1],
        },
    )


def _per_second(times_ns: Collection[int]) -> float:
    return 1e9 * (len(times_ns) - 1) / (max(times_ns) - min(times_ns))


def _made_by(root: Path, run: Run) -> Iterator[str]:
    """Say of each kept frame which file gives its result again: "its own", "other", "both" or "neither"."""
    detectors = {}
    for precision, file in FILES.items():
        spec = inspected_spec(root / file, inspect_model(root / FILES["FP32"]))
        detectors[precision] = Detector.from_file(root / file, spec, precision=precision)  # type: ignore[arg-type]
    for _, message in run.results:
        if message.frame not in run.frames:
            continue
        frame = run.frames[message.frame]
        same = {
            precision: detector.run(frame).detections.to_json() == message.detections
            for precision, detector in detectors.items()
        }
        own = same.pop(message.precision)
        (other,) = same.values()
        yield "both" if own and other else "its own" if own else "other" if other else "neither"


def _lost_while_idle(run: Run) -> tuple[int, int]:
    """Count frames that were dropped though the result before them was out, and those of them beside a switch.

    A frame is dropped when a newer one comes before the detector takes it: where it was busy until then, nothing is
    amiss. Where it was not, the machine ran something else at that moment.
    """
    idle = near = 0
    for (out_s, before), (_, after) in pairwise(run.results):
        for number in range(before.frame + 1, after.frame):
            following = run.captured.get(number + 1)
            if following is not None and out_s * 1e9 < following:
                idle += 1
                near += before.precision != after.precision
    return idle, near


def main() -> int:
    """Run once, and print; 1 when something was not as it must be."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--toggles", type=int, default=200)
    arguments.add_argument("--size", default="640x480", help="of the frames, pixels")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="mt-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        width, height = options.size.split("x")
        root = project(Path(folder) / "project", (int(width), int(height)))
        shown = proof(root, watched(root, seconds=options.seconds, toggles=options.toggles))
    for name, value in shown.figures.items():
        print(f"{name}: {value:g}" if value % 1 == 0 else f"{name}: {value:.1f}")
    for fault in shown.faults:
        print(f"FAULT: {fault}")
    return int(bool(shown.faults))


if __name__ == "__main__":
    sys.exit(main())
