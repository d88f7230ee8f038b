"""What a node tells the program that started it: one JSON object a line, on a pipe of its own.

    {"event":"ready","inputs":[…],"outputs":[…]}                      setup is done
    {"event":"inference","node","ms","precision","frame"}             every frame
    {"event":"swap","node","from","to","before_ms","after_ms"}        another precision, model or option runs
    {"event":"error","node","message"}                                whatever is logged as an error
    {"event":"degrade","node","from","to","reason"}                   it does less than it is asked to, or all again
    {"event":"fault","node","fault","phase"}                          a fault that was asked for begins or ends
    {"event":"config","node","fault"}                                 what it does not take of its files; "": all again
    {"event":"stats","node","frames","dropped","p50_ms","p95_ms","rss_mb","fps_in","fps_out","cpu_percent",
     "precision","stages":{"pre":{"p50","p95"},…},"stale","degraded","seen"}    once a second, and last

"stats" comes from the thread that steps, between two steps, so it is the sign that the node lives. "fps_in" is null for
a node without inputs, "fps_out" for one without outputs. An inference may have "stages", milliseconds by name. The
supervisor passes on all but "ready", and adds an event of its own:

    {"event":"state","node","state","pid","restarts","reason"}        see `mecha.runtime.surroundings.STATES`

The pipe is the process's standard output, which the node's own `print` does not reach: see `take_stdout`.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO, Literal

from mecha.redaction import redacted
from mecha.runtime.timing import NodeStats

SUPERVISED_VARIABLE = "MECHA_SUPERVISOR"
"""Holds the pid of the supervisor in the processes that one started."""

SEEN_VARIABLE = "MECHA_SEEN"
"""Holds the "seen" of the process before, in one that takes its place: no frame is unaccounted for."""


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

    def inference(self, ms: float, precision: str, frame: int, stages: Mapping[str, float] | None = None) -> None:
        """One frame went through a model; `stages` are milliseconds by name."""
        event = {"event": "inference", "node": self._node, "ms": round(ms, 3), "precision": precision, "frame": frame}
        if stages is not None:
            event["stages"] = {name: round(value, 3) for name, value in stages.items()}
        self._send(event)

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

    def degrade(self, was: str, now: str, reason: str) -> None:
        """The node does less than it is asked to, or more again; empty words are for all of it."""
        self._send({"event": "degrade", "node": self._node, "from": was, "to": now, "reason": reason})

    def fault(self, fault: str, phase: Literal["begin", "end"]) -> None:
        """A fault that was asked for begins or ends."""
        self._send({"event": "fault", "node": self._node, "fault": fault, "phase": phase})

    def config(self, fault: str) -> None:
        """The node keeps the config it runs with, for what is wrong with its files; "" when they are valid again."""
        self._send({"event": "config", "node": self._node, "fault": redacted(fault)})

    def stats(self, stats: NodeStats) -> None:
        """How the node does."""
        self._send({"event": "stats", "node": self._node, **stats.to_event()})

    def _send(self, event: Mapping[str, object]) -> None:
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
