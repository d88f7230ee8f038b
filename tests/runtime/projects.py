"""Small projects with nodes of their own."""

import json
from pathlib import Path
from textwrap import dedent

CATALOG = ""


def make_project(root: Path, **nodes: str) -> Path:
    """Lay out a project with nodes by name (`_` is written `-`) and their programs; returns its root."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "model_catalog.toml").write_text(CATALOG)
    for name, program in nodes.items():
        add_node(root, name.replace("_", "-"), program)
    return root


def add_node(root: Path, name: str, program: str) -> Path:
    """Write the program of a node."""
    file = root / "nodes" / name / "node.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dedent(program))
    return file


def configure(root: Path, node: str, environment: str = "common", **values: object) -> Path:
    """Write the config.json of a node."""
    file = root / "configs" / environment / "nodes" / node / "config.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=2))
    return file


TICKER = """
    import numpy as np

    from mecha.runtime.messages import FrameMessage
    from mecha.runtime.node import Node, NodeConfig

    class TickerConfig(NodeConfig):
        frames: int | None = None
        pause_s: float = 0.01

    class Ticker(Node[TickerConfig]):
        config_model = TickerConfig
        outputs = {"/camera/rgb": FrameMessage}

        def setup(self) -> None:
            self.seq = 0
            self.log.info("ticking")

        def step(self, message: None) -> None:
            if self.config.frames is not None and self.seq >= self.config.frames:
                self.finish()
                return
            self.wait(self.config.pause_s)
            self.publish("/camera/rgb", FrameMessage(np.zeros((8, 8, 3), np.uint8), self.seq, 0, "ticker"))
            self.seq += 1
"""
"""A source of small frames."""

COUNTER = """
    from mecha.runtime.messages import FrameMessage, JsonMessage
    from mecha.runtime.node import Node

    class Counter(Node):
        inputs = {"/camera/rgb": FrameMessage}
        outputs = {"/count": JsonMessage}

        def setup(self) -> None:
            self.seen = []

        def step(self, message: FrameMessage) -> None:
            self.seen.append(message.seq)
            self.report_inference(1.0, "FP32", message.seq)
            self.publish("/count", JsonMessage(len(self.seen)))

        def close(self) -> None:
            self.log.info("saw %d frames, the last was %s", len(self.seen), self.seen[-1:])
"""
"""Counts the frames it sees."""

STUBBORN = """
    import signal, time
    from mecha.runtime.messages import FrameMessage
    from mecha.runtime.node import Node

    class Stubborn(Node):
        inputs = {"/camera/rgb": FrameMessage}

        def setup(self) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

        def step(self, message: FrameMessage) -> None:
            self.log.info("hanging")
            while True:
                time.sleep(1)
"""
"""Hangs at its first frame, and ignores SIGTERM."""
