"""What goes over the topics of a bus, for people who look: who uses them, how often something comes, what it says."""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mecha.runtime.bus import Sample, Use
from mecha.runtime.timing import Gaps

_WINDOW_S = 5.0
"""Messages that a rate is taken from, and how long nothing may come before it is none; of slower ones the last two."""


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
        hz: of the last ones, None before the second; 0 when nothing came for a while.
        shortest_ms: between two of the last ones, None where there is no rate; longest_ms: the same.
        bytes_per_s: of payload.
        silent_s: since the last one, None before the first.
        missing: frames that did not come, by their sequence numbers.
    """

    messages: int
    hz: float | None
    shortest_ms: float | None
    longest_ms: float | None
    bytes_per_s: float | None
    silent_s: float | None
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Return what `mecha topic hz --json` writes."""
        return {
            "messages": self.messages,
            "hz": _rounded(self.hz),
            "shortest_ms": _rounded(self.shortest_ms),
            "longest_ms": _rounded(self.longest_ms),
            "bytes_per_s": _rounded(self.bytes_per_s),
            "silent_s": _rounded(self.silent_s),
            "missing": self.missing,
        }


class PaceMeter:
    """Measures how messages come; times are seconds of a clock that is never set."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque()
        self._gaps = Gaps()
        self._messages = 0
        self._missing = 0

    def add(self, sample: Sample, now_s: float) -> None:
        """Note one message."""
        self._messages += 1
        self._arrivals.append((now_s, len(sample.payload)))
        self._forget(now_s)
        header = _json_of(sample.attachment)
        seq = header.get("seq") if isinstance(header, dict) else None
        if isinstance(seq, int):
            self._missing += self._gaps.missed(sample.topic, seq)

    def pace(self, now_s: float) -> Pace:
        """Return what was measured over the last messages."""
        self._forget(now_s)
        arrivals = list(self._arrivals)
        if not arrivals:
            return Pace(self._messages, None, None, None, None, None, self._missing)
        silent_s = now_s - arrivals[-1][0]
        if silent_s > _WINDOW_S:
            return Pace(self._messages, 0.0, None, None, 0.0, silent_s, self._missing)
        spans = [after - before for (before, _), (after, _) in pairwise(arrivals)]
        if not spans:
            return Pace(self._messages, None, None, None, None, silent_s, self._missing)
        # The time since the last one counts once it is longer than any between two: then one is overdue.
        overdue_s = silent_s if silent_s > max(spans) else 0.0
        whole_s = max(arrivals[-1][0] - arrivals[0][0] + overdue_s, 1e-9)
        return Pace(
            messages=self._messages,
            hz=len(spans) / whole_s,
            shortest_ms=min(spans) * 1e3,
            longest_ms=max(spans) * 1e3,
            bytes_per_s=sum(size for _, size in arrivals[1:]) / whole_s,
            silent_s=silent_s,
            missing=self._missing,
        )

    def _forget(self, now_s: float) -> None:
        """Drop what is too old to tell of the rate now; of messages that come seldom the last two do."""
        while len(self._arrivals) > 2 and now_s - self._arrivals[0][0] > _WINDOW_S:  # noqa: PLR2004 - ends of a span
            self._arrivals.popleft()


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
