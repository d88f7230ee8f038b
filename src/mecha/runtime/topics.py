"""What goes over the topics of a bus, for people who look: who uses them, how often something comes, what it says."""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mecha.runtime.bus import Sample, Use
from mecha.runtime.timing import Gaps

_KEPT = 1000
"""Arrivals that a rate is taken from; half a minute of a fast camera."""


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic.

    Attributes:
        message: name of its message type; None for one that no node of ours uses.
        hz: messages a second, over the time that was listened.
        writers: names of the nodes that write it, in order; readers: the same.
    """

    topic: str
    message: str | None
    hz: float
    writers: tuple[str, ...]
    readers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the row as `mecha topic list --json` has it."""
        return {
            "topic": self.topic,
            "message": self.message,
            "hz": round(self.hz, 2),
            "writers": list(self.writers),
            "readers": list(self.readers),
        }


def topic_rows(uses: Iterable[Use], heard: Mapping[str, int], listened_s: float) -> tuple[TopicRow, ...]:
    """Return a row for each topic that a node uses, or on which something was heard.

    Args:
        uses: see `Bus.uses`.
        heard: messages by topic.
        listened_s: how long they were counted.
    """
    by_topic: dict[str, list[Use]] = {topic: [] for topic in heard}
    for use in uses:
        by_topic.setdefault(use.topic, []).append(use)
    return tuple(
        TopicRow(
            topic,
            # Of a writer where there is one: it decides what is sent.
            message=next((use.message for use in sorted(used, key=lambda use: not use.writes)), None),
            hz=heard.get(topic, 0) / listened_s,
            writers=tuple(sorted({use.node for use in used if use.writes})),
            readers=tuple(sorted({use.node for use in used if not use.writes})),
        )
        for topic, used in sorted(by_topic.items())
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How messages of one topic come.

    Attributes:
        messages: all that came.
        hz: of the last ones, None before the second.
        shortest_ms: between two of the last ones; longest_ms: the same.
        bytes_per_s: of payload.
        missing: frames that did not come, by their sequence numbers.
    """

    messages: int
    hz: float | None
    shortest_ms: float | None
    longest_ms: float | None
    bytes_per_s: float | None
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Return what `mecha topic hz --json` writes."""
        return {
            "messages": self.messages,
            "hz": _rounded(self.hz),
            "shortest_ms": _rounded(self.shortest_ms),
            "longest_ms": _rounded(self.longest_ms),
            "bytes_per_s": _rounded(self.bytes_per_s),
            "missing": self.missing,
        }


class PaceMeter:
    """Measures how messages come; times are seconds of a clock that is never set."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._gaps = Gaps()
        self._messages = 0
        self._missing = 0

    def add(self, sample: Sample, now_s: float) -> None:
        """Note one message."""
        self._messages += 1
        self._arrivals.append((now_s, len(sample.payload)))
        header = _json_of(sample.attachment)
        seq = header.get("seq") if isinstance(header, dict) else None
        if isinstance(seq, int):
            self._missing += self._gaps.missed(sample.topic, seq)

    def pace(self) -> Pace:
        """Return what was measured over the last messages."""
        arrivals = list(self._arrivals)
        if len(arrivals) <= 1:
            return Pace(self._messages, None, None, None, None, self._missing)
        spans = [after - before for (before, _), (after, _) in pairwise(arrivals)]
        whole_s = max(arrivals[-1][0] - arrivals[0][0], 1e-9)
        return Pace(
            messages=self._messages,
            hz=len(spans) / whole_s,
            shortest_ms=min(spans) * 1e3,
            longest_ms=max(spans) * 1e3,
            bytes_per_s=sum(size for _, size in arrivals[1:]) / whole_s,
            missing=self._missing,
        )


def readable(sample: Sample) -> dict[str, Any]:
    """Return what a message says: its JSON under "message", else its size; and its header, where it has one."""
    shown: dict[str, Any] = {"topic": sample.topic}
    if sample.attachment:
        header = _json_of(sample.attachment)
        shown["header"] = {"bytes": len(sample.attachment)} if header is None else header
    message = None if sample.attachment else _json_of(sample.payload)
    if message is None and sample.payload != b"null":
        shown["bytes"] = len(sample.payload)
    else:
        shown["message"] = message
    return shown


def _json_of(data: bytes) -> Any:  # noqa: ANN401 - whatever others send
    """Return the value of JSON, None of what is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
