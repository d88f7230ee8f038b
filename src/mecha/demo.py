"""What `mecha demo` does: the whole path on this machine, with the real parts, and what it measured.

The packaged model is served by the mirror on loopback, pulled by the real client, quantized, gated, and run by the real
nodes while `use_int8` is toggled in their config.json.
"""

import shutil
import statistics
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mecha.errors import DiskError, NodeError
from mecha.progress import Progress
from mecha.project import find_project
from mecha.service.layout import lay_out
from mecha.service.models import ModelService
from mecha.store.blobs import packaged_models

if TYPE_CHECKING:
    from mecha.detect.detector import WantedPrecision
    from mecha.gate.coco import AnnotatedFrame
    from mecha.hub.mirror import RunningMirror
    from mecha.project import Project
    from mecha.service.report import PullReport
    from mecha.store.published import PublishedModel

MODEL = "arena-n"
SCENES = 100
"""Scenes that accuracy is measured on; their seeds, 0 and up, are never trained on."""
TOGGLES = 6
_TOGGLE_EVERY_S = 2.0
_START_DEADLINE_S = 60.0
_DETECTOR = "object-detector"
_PICTURE_FRAME = 240
_CARD = "---\nlicense: apache-2.0\n---\n# arena-n\n\nThe detector that ships with mecha.\n"


@dataclass(frozen=True, slots=True)
class Side:
    """One precision of the table: bytes, median milliseconds of the session, mAP50-95 on arena scenes (0 to 1)."""

    size_bytes: int
    session_ms: float
    map: float


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo measured.

    Attributes:
        int8: None where no INT8 build was right.
        swaps: precisions that the running node changed to, one a toggle that it followed.
        node_ms: median milliseconds of a frame in the running node, by precision.
        frames: frames the detector handled; dropped: frames that a newer one replaced before it got to them.
        picture: annotated PNG.
    """

    pull: "PullReport"
    fp32: Side
    int8: Side | None
    swaps: tuple[str, ...]
    node_ms: Mapping[str, float]
    frames: int
    dropped: int
    picture: Path
    project: Path


@dataclass(slots=True)
class _Watched:
    """What the events of the run said."""

    inference_ms: dict[str, list[float]] = field(default_factory=dict)
    swaps: list[str] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "inference":
            self.inference_ms.setdefault(event["precision"], []).append(event["ms"])
        elif event["event"] == "swap":
            self.swaps.append(event["to"])


def run_demo(folder: Path, environ: Mapping[str, str], *, say: Callable[[str], None], progress: Progress) -> DemoReport:
    """Run the demo in a folder of its own, made anew.

    Args:
        folder: what was in it before is removed, if it was a demo's.
        environ: the process environment.
        say: takes one line for people.
        progress: told how far the pull is.

    Raises:
        MechaError: a part of the path failed; that is what the demo is for.
    """
    from mecha.hub.mirror import running_mirror

    _clear(folder)
    with running_mirror(_hub(folder / "hub")) as hub:
        project = _project(folder / "project", environ)
        say(f"serving the packaged model at {hub.endpoint}")
        published, pull = _pull(project, folder, hub, environ, progress)
    say(f"pulled {MODEL}: {pull.message}")
    say(f"running camera and object-detector on arena://, switching use_int8 in config.json {TOGGLES} times")
    watched, frames, dropped = _run_nodes(project, environ, say)
    say(f"measuring accuracy on {SCENES} scenes with ground truth")
    int8_path = published.int8_path
    gate = published.manifest.int8.gate
    latency = gate.latency if gate else None
    fp32 = Side(published.fp32_path.stat().st_size, latency.fp32_ms if latency else 0.0, _map(published, "fp32"))
    int8 = None
    if int8_path is not None and latency is not None:
        int8 = Side(int8_path.stat().st_size, latency.int8_ms, _map(published, "int8"))
    return DemoReport(
        pull=pull,
        fp32=fp32,
        int8=int8,
        swaps=tuple(watched.swaps),
        node_ms={precision: statistics.median(times) for precision, times in watched.inference_ms.items()},
        frames=frames,
        dropped=dropped,
        picture=_picture(published, folder / "demo.png"),
        project=project.root,
    )


def _clear(folder: Path) -> None:
    """Remove an earlier demo; never a folder that is something else."""
    if folder.exists() and not (folder / "hub").is_dir() and any(folder.iterdir()):
        raise DiskError(f"{folder}: holds something that is no demo", hint="name another folder with --dir")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise DiskError(f"{folder}: {error.strerror}", hint="name a folder you may write to with --dir") from error


def _hub(folder: Path) -> Path:
    """Lay out the folder that the mirror serves."""
    repo = folder / "mecha" / MODEL
    repo.mkdir(parents=True)
    for model in packaged_models():
        shutil.copy(model, repo / model.name)
    (repo / "README.md").write_text(_CARD, encoding="utf-8")
    return folder


def _project(folder: Path, environ: Mapping[str, str]) -> "Project":
    folder.mkdir()
    lay_out(folder)
    return find_project(folder, environ)


def _pull(
    project: "Project", folder: Path, hub: "RunningMirror", environ: Mapping[str, str], progress: Progress
) -> "tuple[PublishedModel, PullReport]":
    # An empty cache, and no seeds: the demo shows a download, not that none was needed.
    seen = {key: value for key, value in environ.items() if key not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    seen |= {"HF_ENDPOINT": hub.endpoint, "MECHA_CACHE_DIR": str(folder / "cache")}
    service = ModelService(project, seen, seeds=())
    report = service.pull(MODEL, progress=progress)
    return service.store.require(MODEL), report


def _run_nodes(project: "Project", environ: Mapping[str, str], say: Callable[[str], None]) -> tuple[_Watched, int, int]:
    """Run the nodes in the foreground while a thread toggles `use_int8` as a person with an editor would."""
    from mecha.runtime.dev import DevOptions, run_dev
    from mecha.runtime.settle import set_value

    set_value(project, _DETECTOR, "use_int8", "false", environ)
    # A build beside the nodes would be measured with them.
    set_value(project, _DETECTOR, "self_calibrate", "false", environ)
    watched, flowing, over = _Watched(), threading.Event(), threading.Event()

    def take(event: dict[str, Any]) -> None:
        watched.take(event)
        if event["event"] == "inference":
            flowing.set()

    toggler = threading.Thread(target=_toggle, args=(project, environ, flowing, over), daemon=True)
    toggler.start()
    summary = run_dev(
        project,
        (),
        DevOptions(duration_s=(TOGGLES + 1) * _TOGGLE_EVERY_S),
        on_line=lambda line: say(f"  {line}"),
        on_event=take,
        environ=environ,
    )
    over.set()
    toggler.join()
    if summary.failure:
        raise NodeError(summary.failure)
    detector = summary.nodes[_DETECTOR]
    return watched, detector.frames, detector.dropped


def _toggle(project: "Project", environ: Mapping[str, str], flowing: threading.Event, over: threading.Event) -> None:
    from mecha.runtime.settle import set_value

    flowing.wait(_START_DEADLINE_S)
    for number in range(TOGGLES):
        if over.wait(_TOGGLE_EVERY_S):
            return
        set_value(project, _DETECTOR, "use_int8", "true" if number % 2 == 0 else "false", environ)


def _map(published: "PublishedModel", precision: "WantedPrecision") -> float:
    """Return mAP50-95 on scenes that the model was not trained on, measured as published figures are."""
    from mecha.detect.detector import Detector
    from mecha.gate.coco import evaluate_frames

    detector = Detector(
        published.path, precision=precision, score_threshold=0.001, iou_threshold=0.65, every_class=True
    )
    return evaluate_frames(detector, _scenes()).map


def _scenes() -> "Iterator[AnnotatedFrame]":
    from mecha.arena.camera import training_scene
    from mecha.gate.coco import AnnotatedFrame

    for seed in range(SCENES):
        scene = training_scene(seed)
        yield AnnotatedFrame(scene.frame_bgr, scene.boxes_xyxy, scene.class_ids)


def _picture(published: "PublishedModel", path: Path) -> Path:
    """Write one frame of the arena's camera with what the detector found on it."""
    from mecha.arena.camera import ArenaCamera
    from mecha.detect.detector import Detector
    from mecha.detect.draw import draw
    from mecha.detect.images import write_image

    detector = Detector(published.path)
    detector.warm_up()
    frame = ArenaCamera(width=1280, height=720).scene(_PICTURE_FRAME).frame_bgr
    result = detector.run(frame)
    footer = f"{published.name} {result.precision} {result.times.total_ms:.1f} ms"
    write_image(path, draw(frame, result.detections, footer=footer))
    return path
