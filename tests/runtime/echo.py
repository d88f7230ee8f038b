"""A node that writes down all that happens to it, and a bench to run a node on."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mecha.runtime.bus import Bus
from mecha.runtime.bus.local import LocalBus
from mecha.runtime.events import Events
from mecha.runtime.live import LiveConfig
from mecha.runtime.loop import NodeLoop
from mecha.runtime.messages import ControlMessage, FrameMessage, JsonMessage, Message
from mecha.runtime.node import Node, NodeConfig, NodeContext
from tests.runtime.waiting import wait_for


class EchoConfig(NodeConfig):
    loud: bool = False


class Echo(Node[EchoConfig]):
    """Writes down all that happens to it."""

    config_model = EchoConfig
    inputs: ClassVar[dict[str, type[Message]]] = {"/camera/rgb": FrameMessage, "/control": ControlMessage}
    outputs: ClassVar[dict[str, type[Message]]] = {"/echo": JsonMessage}
    life: ClassVar[list[Any]] = []
    stuck: ClassVar[threading.Event] = threading.Event()

    def setup(self) -> None:
        self.life.append("setup")

    def configure(self, previous: EchoConfig) -> None:
        self.life.append((previous.loud, self.config.loud))

    def step(self, message: FrameMessage | ControlMessage) -> None:
        if isinstance(message, ControlMessage):
            self.life.append(message)
            return
        self.life.append(message.seq)
        self.publish("/echo", JsonMessage(message.seq))
        if message.seq == 13:
            raise ValueError("thirteen")
        if message.seq == 99:
            self.finish()
        if message.seq == 50:
            self.stuck.wait(10)

    def close(self) -> None:
        self.life.append("close")


class Bench:
    """A node in a thread, with both ends of its bus in hand."""

    def __init__(self, node_class: type[Node[Any]], root: Path, bus: Bus, *, from_the_first: bool = False) -> None:
        self.bus = bus
        self.raised: BaseException | None = None
        self.go = threading.Event()
        self.pipe = io.BytesIO()
        self.stopping = threading.Event()
        log = logging.getLogger("echo")
        self.context = NodeContext("echo", root, bus, Events("echo", self.pipe), log, self.stopping)
        live = LiveConfig(node_class.config_model, (root / "config.json",), root, {}, log=log, on_change=self.wake)
        self.loop = NodeLoop(node_class, self.context, live, self.go, from_the_first=from_the_first)
        self.thread = threading.Thread(target=self._run)

    def wake(self) -> None:
        self.loop.wake()

    def _run(self) -> None:
        try:
            self.loop.run()
        except ValueError as error:
            self.raised = error

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.pipe.getvalue().splitlines()]
        return [line for line in lines if line["event"] == kind]

    def send_frame(self, seq: int) -> None:
        payload, attachment = FrameMessage(np.zeros((2, 2, 3), np.uint8), seq, 0).encode()
        self.bus.publish("/camera/rgb", payload, attachment)

    def stop(self) -> None:
        self.stopping.set()
        self.loop.wake()
        self.thread.join(10)
        assert not self.thread.is_alive()


@contextmanager
def running(node_class: type[Node[Any]], root: Path, *, from_the_first: bool = False) -> Iterator[Bench]:
    """Run a node in a thread, and go on once it is ready; what an `Echo` wrote down before is gone."""
    Echo.life = []
    Echo.stuck = threading.Event()
    bench = Bench(node_class, root, LocalBus(), from_the_first=from_the_first)
    bench.go.set()
    bench.thread.start()
    wait_for(lambda: bench.events("ready"))
    try:
        yield bench
    finally:
        Echo.stuck.set()
        bench.stop()
