"""What a node tells the program that started it: one JSON object a line, on a pipe of its own.

    {"event":"ready","inputs":[…],"outputs":[…]}                      setup is done
    {"event":"inference","node","ms","precision","frame"}             every frame
    {"event":"swap","node","from","to","before_ms","after_ms"}        another precision, model or option runs
    {"event":"error","node","message"}                                whatever is logged as an error
    {"event":"stats","node","frames","dropped","p50_ms","p95_ms","rss_mb"}    once a second, and last

The pipe is the process's standard output, which the node's own `print` does not reach: see `take_stdout`.
"""

import json
import logging
import os
import sys
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO

from mecha.redaction import redacted

SUPERVISED_VARIABLE = "MECHA_SUPERVISOR"
"""Holds the pid of the supervisor in the processes that one started."""


@dataclass(frozen=True, slots=True)
class Swap:
    """The detector changed what it runs.

    Attributes:
        was: what ran before, as in "FP32"; the field "from" of the event.
        now: what runs since; "to".
        before_ms: median of the frames before, None when there was none.
        after_ms: median of the first frames after.
    """

    was: str
    now: str
    before_ms: float | None
    after_ms: float | None


class Events:
    """Writes events of one node.

    Args:
        node: name of the node.
        stream: where they go; None drops them, for a node that nobody supervises.
    """

    def __init__(self, node: str, stream: BinaryIO | None = None) -> None:
        self._node = node
        self._stream = stream
        self._lock = Lock()

    def ready(self, inputs: list[str], outputs: list[str]) -> None:
        """The node is set up."""
        self._send({"event": "ready", "node": self._node, "inputs": inputs, "outputs": outputs})

    def inference(self, ms: float, precision: str, frame: int) -> None:
        """One frame went through a model."""
        self._send(
            {"event": "inference", "node": self._node, "ms": round(ms, 3), "precision": precision, "frame": frame}
        )

    def swap(self, swap: Swap) -> None:
        """The detector changed what it runs."""
        self._send(
            {
                "event": "swap",
                "node": self._node,
                "from": swap.was,
                "to": swap.now,
                "before_ms": _rounded(swap.before_ms),
                "after_ms": _rounded(swap.after_ms),
            }
        )

    def error(self, message: str) -> None:
        """Something is wrong."""
        self._send({"event": "error", "node": self._node, "message": message})

    def stats(
        self, frames: int, dropped: int, p50_ms: float | None, p95_ms: float | None, rss_mb: float | None
    ) -> None:
        """How the node does."""
        self._send(
            {
                "event": "stats",
                "node": self._node,
                "frames": frames,
                "dropped": dropped,
                "p50_ms": _rounded(p50_ms),
                "p95_ms": _rounded(p95_ms),
                "rss_mb": _rounded(rss_mb),
            }
        )

    def _send(self, event: dict[str, object]) -> None:
        if self._stream is None:
            return
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except OSError:
                # The supervisor is gone, and this process is about to notice; nobody reads this any more.
                self._stream = None


class ErrorEvents(logging.Handler):
    """Sends what is logged as an error as an event too."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.ERROR)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._events.error(redacted(record.getMessage()))


class LineFormatter(logging.Formatter):
    """`[INFO] object-detector: text`, for every line of a text."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as lines."""
        return prefixed(record.levelname, self._node, redacted(super().format(record)))


def prefixed(level: str, node: str, text: str) -> str:
    """Return a text with the prefix before each of its lines."""
    return "\n".join(f"[{level}] {node}: {line}".rstrip() for line in text.splitlines() or [""])


def configure_logging(node: str, events: Events, level: int) -> None:
    """Send the log of this process to stderr, a line at a time, and its errors to `events` too."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(LineFormatter(node))
    logging.basicConfig(level=level, handlers=[lines, ErrorEvents(events)], force=True)


def take_stdout() -> BinaryIO:
    """Return standard output as the pipe for events, and send what else is written to it to stderr instead."""
    sys.stdout.flush()
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
