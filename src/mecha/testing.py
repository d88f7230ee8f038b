"""Tests of nodes: feed messages, read what the node published, change its config; no process, no network, no clock.

with NodeHarness("nodes/cone-alarm", {"limit": 1}) as alarm:
    alarm.feed("/vision/object/detections", detections("cone", "cone", frame=7))
    assert alarm.read("/alarm") == [JsonMessage({"frame": 7, "cones": 2})]
"""

import contextlib
import io
import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mecha.errors import ConfigError
from mecha.runtime.bus import Sample
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.config import Layer, load_config
from mecha.runtime.events import Events, LineFormatter
from mecha.runtime.messages import DetectionsMessage, FrameMessage, Message
from mecha.runtime.node import Node, NodeConfig, NodeContext
from mecha.runtime.program import load_node

__all__ = ["NodeHarness", "detections", "found", "frame"]


class NodeHarness:
    """Runs one node in the calling thread: `setup` where the `with` block begins, `close` where it ends.

    Messages are encoded and decoded on their way, as on a bus: what could not travel fails here too, and frames come
    read-only.

    Args:
        node: the folder of a node, as in "nodes/cone-alarm", or its class.
        config: what its config.json would say; a key that is absent has its default.
        root: the project's root, and the working directory within the block; the folder above nodes/ by default, or
            the working directory for a class.

    Attributes:
        node: the node itself.
        lines: its log from INFO on, as in `mecha dev`: "[WARNING] cone-alarm: 2 cones in frame 7".
        waited_s: seconds that it asked `wait` for; nothing waits in a test.

    Raises:
        ConfigError: the config is not valid.
        NotFoundError: there is no such node.
        NodeError: its program cannot be imported.
    """

    def __init__(
        self, node: str | Path | type[Node[Any]], config: Mapping[str, Any] | None = None, *, root: Path | None = None
    ) -> None:
        if isinstance(node, type):
            node_class, name, above = node, node.__name__.lower(), Path.cwd()
            self._folder: Path | None = None
        else:
            self._folder = Path(node).absolute()
            name, above = self._folder.name, self._folder.parents[1]
            node_class = load_node(self._folder.parent, name)
        self.root = (above if root is None else root).absolute()
        self.lines: list[str] = []
        self._model: type[NodeConfig] = node_class.config_model
        self._layers = [_layer(config or {})]
        self._bus = LocalBus()
        self._pipe = io.BytesIO()
        self._stopping = _Stopping()
        self._log = logging.getLogger(name)
        self._published: dict[str, deque[Sample]] = {topic: deque() for topic in node_class.outputs}
        self._undo: contextlib.ExitStack | None = None
        for topic, samples in self._published.items():
            self._bus.subscribe(topic, samples.append)
        context = NodeContext(
            name, self.root, self._bus, Events(name, self._pipe), self._log, self._stopping, clock=self._stopping.clock
        )
        self.node = node_class(context, load_config(self._model, self._layers))

    def __enter__(self) -> Self:
        """Set the node up."""
        with contextlib.ExitStack() as undo:
            if self._folder is not None:
                undo.callback(_forget_modules, self._folder)
            undo.enter_context(contextlib.chdir(self.root))
            undo.enter_context(_lines_of(self._log, self.lines))
            self.node.setup()
            undo.callback(self.node.close)
            undo.callback(self.stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the node, after an error too."""
        if self._undo is not None:
            undo, self._undo = self._undo, None
            undo.close()

    def feed(self, topic: str, message: Message) -> None:
        """Let the node step on one message.

        Raises:
            ConfigError: the topic is not among its inputs, or the message is of another type.
            Exception: what its `step` raises.
        """
        expected = self.node.inputs.get(topic)
        if expected is None or not isinstance(message, expected):
            raise self._refusal(f"a {type(message).__name__} for {topic}", "inputs", self.node.inputs)
        self._step(expected.decode(Sample(topic, *message.encode())))

    def step(self, times: int = 1) -> None:
        """Let a node without inputs step, at most so many times: no more once it has finished.

        Raises:
            ConfigError: the node has inputs.
            Exception: what its `step` raises.
        """
        if self.node.inputs:
            raise self._refusal("a step without a message", "inputs", self.node.inputs)
        for _ in range(times):
            if not self.node.finished:
                self._step(None)

    def read(self, topic: str) -> list[Any]:
        """Return what the node published on a topic since it was read last.

        Raises:
            ConfigError: the topic is not among its outputs.
        """
        kind = self.node.outputs.get(topic)
        if kind is None:
            raise self._refusal(topic, "outputs", self.node.outputs)
        samples = self._published[topic]
        return [kind.decode(samples.popleft()) for _ in range(len(samples))]

    def configure(self, config: Mapping[str, Any]) -> None:
        """Change keys of the config, as an edited config.json does: a faulty one leaves the node as it is.

        Raises:
            ConfigError: the config is not valid, with every fault.
        """
        layers = [*self._layers, _layer(config)]
        previous, changed = self.node.config, load_config(self._model, layers)
        self._layers = layers
        if changed != previous:
            self.node.config = changed
            self.node.configure(previous)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the node's events of one kind, "inference" or "swap", as `mecha dev --json` writes them."""
        events = [json.loads(line) for line in self._pipe.getvalue().splitlines()]
        return [event for event in events if event["event"] == kind]

    def stop(self) -> None:
        """Let the node's `wait` say that it is to end."""
        self._stopping.set()

    @property
    def finished(self) -> bool:
        """Whether the node called `finish`."""
        return self.node.finished

    @property
    def waited_s(self) -> float:
        """Seconds that the node asked `wait` for."""
        return self._stopping.waited_s

    def _step(self, message: Message | None) -> None:
        if self._undo is None:
            raise RuntimeError("the node is not set up: use NodeHarness in a `with` block")
        self.node.step(message)

    def _refusal(self, got: str, which: str, topics: Mapping[str, type[Message]]) -> ConfigError:
        known = ", ".join(f"{topic} ({kind.__name__})" for topic, kind in topics.items()) or "none"
        return ConfigError(f"{self._log.name}: got {got}; expected one of its {which}: {known}")


def frame(seq: int = 0, *, width: int = 64, height: int = 48, pixels: NDArray[np.uint8] | None = None) -> FrameMessage:
    """Return a frame: black, or of `pixels`, (H, W, 3) uint8, blue, green, red."""
    return FrameMessage(np.zeros((height, width, 3), np.uint8) if pixels is None else pixels, seq, 0, "test")


def found(
    label: str, *, score: float = 0.9, box: Sequence[float] = (8, 8, 24, 24), class_id: int = 0
) -> dict[str, Any]:
    """Return one object as a result holds it; `box` is x1, y1, x2, y2 in pixels of the frame."""
    return {"label": label, "class_id": class_id, "score": score, "box": [float(value) for value in box]}


def detections(
    *objects: str | Mapping[str, Any], frame: int = 0, width: int = 64, height: int = 48
) -> DetectionsMessage:
    """Return a result.

    Args:
        objects: labels, or objects as `found` makes them; strongest first.
        frame: seq of the frame they were found in; width: of it, pixels; height: the same.
    """
    return DetectionsMessage(
        frame=frame,
        captured_at=0,
        width=width,
        height=height,
        precision="FP32",
        model="test",
        model_digest="0" * 64,
        detections=[found(one) if isinstance(one, str) else dict(one) for one in objects],
        ms={"pre": 0.0, "session": 0.0, "post": 0.0},
        source="test",
    )


class _Stopping(threading.Event):
    """Says whether the node is to end; who waits for it finds that the time has passed already."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.waited_s += timeout or 0.0
        return self.is_set()

    def clock(self) -> float:
        return self.waited_s


class _Lines(logging.Handler):
    def __init__(self, node: str, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(LineFormatter(node))
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines += self.format(record).splitlines()


def _layer(config: Mapping[str, Any]) -> Layer:
    return Layer("config", json.dumps(config).encode())


@contextlib.contextmanager
def _lines_of(log: logging.Logger, lines: list[str]) -> Iterator[None]:
    handler, level = _Lines(log.name, lines), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _forget_modules(folder: Path) -> None:
    """Let the next node of this process import a module of the same name from its own folder."""
    while str(folder) in sys.path:
        sys.path.remove(str(folder))
    for name, module in list(sys.modules.items()):
        # Not by getattr: there are modules that import others when they are asked for a name.
        file = getattr(module, "__dict__", {}).get("__file__")
        if file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]
