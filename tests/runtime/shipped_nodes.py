"""A project with the camera and the object detector as they ship, and a bench to run one of them on."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mecha.project import bundled_dir, find_project
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.events import Events
from mecha.runtime.live import LiveConfig
from mecha.runtime.loop import NodeLoop
from mecha.runtime.messages import ControlMessage, DetectionsMessage, FrameMessage
from mecha.runtime.node import NodeContext
from mecha.runtime.program import load_node
from mecha.store.models import ModelStore
from tests.detect.blob_detector import RED, scene
from tests.detect.published_blobs import publish_blobs
from tests.runtime.projects import configure
from tests.runtime.waiting import wait_for

CONTROL, FRAMES, DETECTIONS = "/vision/object/control", "/camera/rgb", "/vision/object/detections"
Running = Callable[[str], Any]
"""`running_node` in the project of a test: takes the name of the node."""


def shipped_project(root: Path, int8: bytes) -> Path:
    """Lay out a project with the nodes that ship, and the blob detector in both precisions; returns its root."""
    (root / "models").mkdir(parents=True)
    (root / "model_catalog.toml").touch()
    for part in ("nodes", "configs"):
        shutil.copytree(bundled_dir() / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    publish_blobs(ModelStore(root / "models"), int8=int8)
    configure(root, "object-detector", model="blobs", use_int8=False)
    return root


class Bench:
    """One node in a thread, between both ends of a bus in this process."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.bus = LocalBus()
        self.detections: list[DetectionsMessage] = []
        self.frames: list[FrameMessage] = []
        self.bus.subscribe(DETECTIONS, lambda sample: self.detections.append(DetectionsMessage.decode(sample)))
        self.bus.subscribe(FRAMES, lambda sample: self.frames.append(FrameMessage.decode(sample)))
        self.stopping = threading.Event()
        node_class = load_node(root / "nodes", name)
        log = logging.getLogger(name)
        live = LiveConfig(
            node_class.config_model,
            find_project(root, {}).node_config_files(name),
            root,
            {},
            log=log,
            on_change=self.wake,
        )
        go = threading.Event()
        go.set()
        self.loop = NodeLoop(node_class, NodeContext(name, root, self.bus, Events(name), log, self.stopping), live, go)
        self.thread = threading.Thread(target=self.loop.run)

    def wake(self) -> None:
        self.loop.wake()

    def send(self, seq: int, frame: Any = None) -> None:
        pixels = scene((8, 8, 8, RED)) if frame is None else frame
        payload, attachment = FrameMessage(pixels, seq, 1000 + seq, "test").encode()
        self.bus.publish(FRAMES, payload, attachment)

    def result_of(self, seq: int, frame: Any = None) -> DetectionsMessage:
        """Send a frame and return what was found in it."""
        self.send(seq, frame)
        return wait_for(lambda: next((one for one in self.detections[::-1] if one.frame == seq), None))  # type: ignore[return-value]

    def command(self, **values: Any) -> None:
        self.bus.publish(CONTROL, ControlMessage(**values).encode()[0])

    def set(self, **values: Any) -> None:
        configure(self.root, self.name, **values)


@contextmanager
def running_node(root: Path, name: str) -> Iterator[Bench]:
    """Run a node of a project in a thread of its own."""
    bench = Bench(root, name)
    bench.thread.start()
    try:
        yield bench
    finally:
        bench.stopping.set()
        bench.loop.wake()
        bench.thread.join(10)


def listening(bench: Bench) -> None:
    """Send frames until the first result: the detector loads its model first."""

    def heard() -> bool:
        bench.send(0)
        return bool(bench.detections)

    wait_for(heard, timeout_s=30)
    # Frames are worked off in order: after this one none of the above is left.
    bench.result_of(1)
    bench.detections.clear()
